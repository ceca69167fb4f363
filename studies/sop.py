"""Stanford Online Products."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.data import StanfordOnlineProducts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with Ebay_train.txt, Ebay_test.txt and the images, or the one around it",
    )


SCRIPT = StudyScript(
    name="sop",
    description="Balance the contrastive loss on Stanford Online Products.",
    dataset=lambda options: StanfordOnlineProducts(options.root),
    add_arguments=add_arguments,
    # Products have five images on average, some two. The budget is about three passes over those
    # that are trained on.
    defaults={"images_per_class": 2, "samples": 100_000},
)

if __name__ == "__main__":
    main(SCRIPT)
