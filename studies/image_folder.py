"""Your own images: a folder with one sub-folder per class."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.data import ImageFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with one sub-folder of images per class",
    )
    parser.add_argument(
        "--class-depth",
        type=int,
        default=1,
        metavar="N",
        help="depth of the class folders below --root: 2 for DIR/<group>/<class>, as in "
        "iNaturalist 2018 (default: %(default)s)",
    )


SCRIPT = StudyScript(
    name="image_folder",
    description="Balance the contrastive loss on your own images, in folders by class.",
    dataset=lambda options: ImageFolder(options.root, class_depth=options.class_depth),
    add_arguments=add_arguments,
)

if __name__ == "__main__":
    main(SCRIPT)
