"""CUB-200-2011 birds, or the edition of 2010 in the same layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.data import CUB200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with images.txt, image_class_labels.txt, classes.txt and images/, or the one "
        "around it",
    )
    parser.add_argument("--download", action="store_true", help="get CUB-200-2011 into --root")


SCRIPT = StudyScript(
    name="cub200",
    description="Balance the contrastive loss on the birds of CUB-200.",
    dataset=lambda options: CUB200(options.root, download=options.download),
    add_arguments=add_arguments,
)

if __name__ == "__main__":
    main(SCRIPT)
