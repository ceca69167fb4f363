"""CIFAR-10 without labels: views of small photographs."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SelfSupervisedScript
from cbal_optuna.data import CIFAR10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with the binary version (data_batch_1.bin and so on), or the one around it",
    )
    parser.add_argument("--download", action="store_true", help="get CIFAR-10 into --root")


SCRIPT = SelfSupervisedScript(
    name="cifar10_ssl",
    description="Balance the contrastive loss of self-supervised learning on CIFAR-10.",
    dataset=lambda options: CIFAR10(options.root, download=options.download),
    add_arguments=add_arguments,
    defaults={"image_size": 32, "small_stem": True},
)

if __name__ == "__main__":
    main(SCRIPT)
