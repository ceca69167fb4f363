"""Losses with nothing but their defaults, ours and pytorch-metric-learning's, in the same
trainings: ``results/defaults.json``.

::

    python benchmarks/defaults.py --cub DIR --flowers DIR --omniglot DIR --weights FILE --jobs 4

DIR are the folders of CUB-200, by class of Oxford Flowers-102, and of Omniglot; FILE are weights
of tf_efficientnet_lite0. The defaults were chosen on the validation classes of all four, with
other seeds.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
import inspect
from itertools import product
import json
from typing import Any

from carrying import OTHER_SIZES
import numpy as np
from record import RESULTS
from record import write_record
from trainings import add_arguments
from trainings import LOSSES
from trainings import trained
from trainings import Training

from cbal_optuna.interval import Interval


# Ours, and what it has to be as good as.
PAIRS = {"SplitInfoNCELoss": "SupConLoss", "SplitMarginLoss": "ContrastiveLoss"}
DATASETS = ("digits", "cub200", "flowers102", "omniglot")
BATCH_SIZES = (32, 128, 512)
SEEDS = range(2_000, 2_005)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = parser.parse_args()
    cells = list(product(PAIRS, DATASETS, BATCH_SIZES, ("validation", "test")))
    wanted = [t for cell in cells for own in both(*cell) for t in own]
    rows = trained(wanted, OTHER_SIZES / "defaults.csv", options)
    scores = {training: row["map_at_r"] for training, row in zip(wanted, rows)}
    results = [compared(*cell, scores) for cell in cells]
    write_record(
        RESULTS / "defaults.json",
        {
            "pytorch-metric-learning": version("pytorch-metric-learning"),
            "defaults": {name: default_arguments(name) for name in PAIRS},
            "compared": results,
        },
    )
    print(*(json.dumps(result) for result in results), sep="\n")


def both(
    ours: str, dataset: str, batch_size: int, classes: str
) -> tuple[list[Training], list[Training]]:
    """The trainings with our loss and with the other one."""
    arguments = {ours: default_arguments(ours), PAIRS[ours]: {}}
    own, other = (
        [Training(dataset, name, json.dumps(a), batch_size, seed, classes) for seed in SEEDS]
        for name, a in arguments.items()
    )
    return own, other


def default_arguments(loss: str) -> dict[str, Any]:
    parameters = inspect.signature(LOSSES[loss]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


def compared(
    ours: str, dataset: str, batch_size: int, classes: str, scores: dict[Training, float]
) -> dict[str, Any]:
    """MAP@R with 95 % intervals, and the difference paired by seed."""
    own, other = (
        np.array([scores[training] for training in trainings])
        for trainings in both(ours, dataset, batch_size, classes)
    )
    return {
        "loss": ours,
        "other": PAIRS[ours],
        "dataset": dataset,
        "batch_size": batch_size,
        "classes": classes,
        "map_at_r": _rounded(own),
        "other_map_at_r": _rounded(other),
        "difference": _rounded(own - other),
    }


def _rounded(values: np.ndarray) -> list[float]:
    interval = Interval.of(values)
    return [round(interval.mean, 4), round(interval.half_width, 4)]


if __name__ == "__main__":
    main()
