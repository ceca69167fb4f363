"""Your own images without labels in training: a folder with one sub-folder per class, which the
evaluation goes by."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["image_folder_ssl"]

if __name__ == "__main__":
    main(SCRIPT)
