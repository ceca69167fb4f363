"""Omniglot, from scratch: a small network, a training in a minute on a CPU core."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["omniglot"]

if __name__ == "__main__":
    main(SCRIPT)
