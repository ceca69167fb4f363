"""Records how real trainings answer to balance, temperature or margin, and batch size, on a full
grid: ``landscapes/NAME.csv`` with a row for each training, and ``landscapes/NAME.json`` with what
was trained, where and when. Running again goes on where it was stopped.

::

    python benchmarks/record_landscape.py digits
    python benchmarks/record_landscape.py cub_negatives --root DIR --weights FILE --jobs 4
    python benchmarks/record_landscape.py cub_negatives --batch-sizes 16 1024 --root DIR ...

DIR is the folder of CUB-200 or, by class, of Oxford Flowers-102; FILE are weights of
tf_efficientnet_lite0. ``benchmarks/search.py`` simulates searches on the result. Batch sizes that
are not searched go to ``landscapes/batch_size/``, for ``benchmarks/batch_size.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures import ProcessPoolExecutor
import csv
from dataclasses import dataclass
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
import time

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from record import write_record
from tqdm import tqdm

from cbal_optuna.data import CUB200
from cbal_optuna.data import Digits
from cbal_optuna.data import ImageFolder
from cbal_optuna.objectives import BATCH_SIZES
from cbal_optuna.objectives import InfeasibleSettingError
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.training import Augmentation
from cbal_optuna.training import LEARNING_RATE_RULES
from cbal_optuna.training import TrainingOptions


LANDSCAPES = Path(__file__).parent / "landscapes"
SEEDS = (0, 1, 2)
N_LEVELS = 7


@dataclass(frozen=True)
class Landscape:
    """What is trained, and the ranges of the grid."""

    dataset: str
    loss: str
    variant: dict[str, str]
    balance: tuple[float, float]
    batch_sizes: tuple[int, ...] = BATCH_SIZES

    @property
    def second(self) -> str:
        return "temperature" if self.loss == "infonce" else "margin"

    @property
    def space(self) -> SearchSpace:
        low, high = self.balance
        fixed = {"learning_rate": 3e-3} if self.dataset == "digits" else {}
        balance = FloatDistribution(low, high, log=True)
        batch_size = CategoricalDistribution(self.batch_sizes)
        return SearchSpace(
            self.loss, balance=balance, batch_size=batch_size, **fixed, **self.variant
        )

    @property
    def settings(self) -> Iterator[dict[str, float]]:
        low, high = self.balance
        balances = np.geomspace(low, high, N_LEVELS)
        infonce = self.loss == "infonce"
        seconds = np.geomspace(0.01, 1.0, N_LEVELS) if infonce else np.linspace(0.0, 0.8, N_LEVELS)
        for balance, second, batch_size in product(balances, seconds, self.batch_sizes):
            yield {
                "balance": float(f"{balance:.6g}"),
                self.second: float(f"{second:.6g}"),
                "batch_size": batch_size,
            }


def _infonce(dataset: str, denominator: str) -> Landscape:
    return Landscape(dataset, "infonce", {"denominator": denominator}, (1 / 8, 64.0))


def _margin(dataset: str, aggregation: str, balance: tuple[float, float]) -> Landscape:
    return Landscape(dataset, "margin", {"aggregation": aggregation}, balance)


RECORDED = {
    "digits": _infonce("digits", "negatives"),
    "cub_negatives": _infonce("cub200", "negatives"),
    "cub_all": _infonce("cub200", "all"),
    "cub_margin_all": _margin("cub200", "all", (1.0, 4096.0)),
    "cub_margin_nonzero": _margin("cub200", "nonzero", (1 / 8, 64.0)),
    "cub_margin_anchor_sum": _margin("cub200", "anchor_sum", (1 / 64, 64.0)),
    "flowers_negatives": _infonce("flowers102", "negatives"),
    "flowers_all": _infonce("flowers102", "all"),
}

Row = dict[str, float]
_objective: RetrievalObjective


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=RECORDED)
    parser.add_argument("--root", type=Path, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="FILE")
    parser.add_argument("--samples", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time")
    parser.add_argument("--batch-sizes", type=int, nargs="+", metavar="N", help="others")
    parser.add_argument("--learning-rate-rule", choices=LEARNING_RATE_RULES, default="none")
    options = parser.parse_args()
    landscape, folder = RECORDED[options.name], LANDSCAPES
    if options.batch_sizes:
        landscape = replace(landscape, batch_sizes=tuple(options.batch_sizes))
        folder = LANDSCAPES / "batch_size"
    if options.learning_rate_rule != "none":
        folder = folder / options.learning_rate_rule
        folder.mkdir(exist_ok=True)
    objective = objective_of(landscape, options)
    objective.prepare()
    path = folder / f"{options.name}.csv"
    missing = [row for row in rows(landscape) if row not in recorded(path, list(row))]
    pool = ProcessPoolExecutor(
        options.jobs, get_context("spawn"), _start_worker, (landscape, options)
    )
    with pool, path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*next(rows(landscape)), "map_at_r", "recall_1", "seconds"])
        if not file.tell():
            writer.writeheader()
        trainings = [pool.submit(train, row) for row in missing]
        for training in tqdm(as_completed(trainings), options.name, len(trainings)):
            writer.writerow(training.result())
            file.flush()
    write_record(path.with_suffix(".json"), objective.description)


def objective_of(landscape: Landscape, options: argparse.Namespace) -> RetrievalObjective:
    training = TrainingOptions(
        samples=options.samples, learning_rate_rule=options.learning_rate_rule
    )
    if landscape.dataset == "digits":
        return RetrievalObjective(
            Digits(),
            backbone="test_convnext",
            weights="random",
            image_size=32,
            embedding_dim=64,
            space=landscape.space,
            training=TrainingOptions(samples=8_000),
            augmentation=Augmentation(min_area=0.6, rotation=15.0, flip=False),
            test_share=0.3,
        )
    return RetrievalObjective(
        CUB200(options.root) if landscape.dataset == "cub200" else ImageFolder(options.root),
        backbone="tf_efficientnet_lite0",
        weights=options.weights,
        head_only=True,
        image_size=128 if landscape.dataset == "cub200" else 64,
        space=landscape.space,
        training=training,
    )


def rows(landscape: Landscape) -> Iterator[Row]:
    """What is to be trained, a whole grid after the other."""
    for seed, setting in product(SEEDS, landscape.settings):
        yield {**setting, "seed": seed}


def recorded(path: Path, names: list[str]) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(row[name]) for name in names} for row in csv.DictReader(file)]


def _start_worker(landscape: Landscape, options: argparse.Namespace) -> None:
    global _objective
    _objective = objective_of(landscape, options)


def train(row: Row) -> Row:
    """A setting that cannot be trained has a MAP@R of 0, as in studies."""
    split = _objective.splits[0]
    setting = {k: v for k, v in row.items() if k != "seed"}
    setting = _objective.space.completed({**setting, "batch_size": int(row["batch_size"])})
    start = time.perf_counter()
    try:
        outcome = _objective.run(setting, split.train, split.validation, seed=int(row["seed"]))
        map_at_r, recall = outcome.metrics.map_at_r, outcome.metrics.recall[1]
    except InfeasibleSettingError:
        map_at_r = recall = 0.0
    seconds = time.perf_counter() - start
    return {
        **row,
        "map_at_r": round(map_at_r, 5),
        "recall_1": round(recall, 5),
        "seconds": round(seconds, 2),
    }


if __name__ == "__main__":
    main()
