"""Cars-196, in one of the layouts in which it is passed on."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["cars196"]

if __name__ == "__main__":
    main(SCRIPT)
