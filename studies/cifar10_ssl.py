"""CIFAR-10 without labels: views of small photographs."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["cifar10_ssl"]

if __name__ == "__main__":
    main(SCRIPT)
