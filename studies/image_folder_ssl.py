"""Your own images without labels in training: a folder with one sub-folder per class, which the
evaluation goes by."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SelfSupervisedScript
from cbal_optuna.data import ImageFolder
from cbal_optuna.training import ViewAugmentation


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


SCRIPT = SelfSupervisedScript(
    name="image_folder_ssl",
    description="Balance the contrastive loss of self-supervised learning on your own images; "
    "their folders serve the evaluation alone.",
    dataset=lambda options: ImageFolder(options.root, class_depth=options.class_depth),
    add_arguments=add_arguments,
    augmentation=ViewAugmentation(blurred=0.5),
)

if __name__ == "__main__":
    main(SCRIPT)
