"""Cars-196, in one of the layouts in which it is passed on."""

from __future__ import annotations

import argparse
from pathlib import Path

from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.data import Cars196


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with car_ims and cars_annos.mat; with cars_train, cars_test, devkit and "
        "cars_test_annos_withlabels.mat; or with train and test, each with one folder per class",
    )


SCRIPT = StudyScript(
    name="cars196",
    description="Balance the contrastive loss on the cars of Cars-196.",
    dataset=lambda options: Cars196(options.root),
    add_arguments=add_arguments,
)

if __name__ == "__main__":
    main(SCRIPT)
