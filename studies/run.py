"""A study that a file describes: ``python studies/run.py studies/digits.yaml``."""

from __future__ import annotations

from cbal_optuna.command_line import main_of_file


if __name__ == "__main__":
    main_of_file()
