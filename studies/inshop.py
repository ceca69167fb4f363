"""In-Shop Clothes Retrieval: on the test classes, queries search a gallery."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.data import InShop


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with Eval/list_eval_partition.txt and Img/img, or the one around it",
    )


SCRIPT = StudyScript(
    name="inshop",
    description="Balance the contrastive loss on In-Shop Clothes Retrieval.",
    dataset=lambda options: InShop(options.root),
    add_arguments=add_arguments,
    # Items have six images on average, many fewer than four.
    defaults={"images_per_class": 2},
)

if __name__ == "__main__":
    main(SCRIPT)
