"""Omniglot, from scratch: a small network, a training in a minute on a CPU core."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.data import Omniglot
from cbal_optuna.training import Augmentation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with images_background and images_evaluation, or the one around it",
    )
    parser.add_argument("--download", action="store_true", help="get Omniglot into --root")


SCRIPT = StudyScript(
    name="omniglot",
    description="Balance the contrastive loss on the handwritten characters of Omniglot.",
    dataset=lambda options: Omniglot(options.root, download=options.download),
    add_arguments=add_arguments,
    defaults={
        "backbone": "test_resnet",
        "weights": "random",
        "image_size": 64,
        "embedding_dim": 64,
        "learning_rate": 3e-3,
    },
    # Characters turn into others when mirrored.
    augmentation=Augmentation(min_area=0.6, rotation=15.0, flip=False),
)

if __name__ == "__main__":
    main(SCRIPT)
