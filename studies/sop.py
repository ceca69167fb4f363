"""Stanford Online Products."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["sop"]

if __name__ == "__main__":
    main(SCRIPT)
