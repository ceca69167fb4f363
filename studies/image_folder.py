"""Your own images: a folder with one sub-folder per class."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["image_folder"]

if __name__ == "__main__":
    main(SCRIPT)
