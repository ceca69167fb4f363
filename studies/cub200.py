"""CUB-200-2011 birds, or the edition of 2010 in the same layout."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["cub200"]

if __name__ == "__main__":
    main(SCRIPT)
