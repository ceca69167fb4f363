"""Trainings with any loss, ours or another package's, in the studies' own training loop.

They are kept in a CSV file, a row each as soon as it is done; what is there is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures import ProcessPoolExecutor
import csv
from dataclasses import asdict
from dataclasses import dataclass
from functools import partial
import json
from multiprocessing import get_context
from pathlib import Path
import time
from typing import Any
from typing import cast

import numpy as np
import pytorch_metric_learning.losses
import torch
from torch import nn
from torch import Tensor
from tqdm import tqdm

from cbal_optuna.data import class_splits
from cbal_optuna.data import CUB200
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import Digits
from cbal_optuna.data import ImageFolder
from cbal_optuna.data import indices_of
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import MPerClassBatchSampler
from cbal_optuna.data import Omniglot
from cbal_optuna.evaluation import retrieval_metrics
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.losses import SplitTerms
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import DivergedError
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import HeadOnly
from cbal_optuna.training import Regime
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions


LOSSES: dict[str, Callable[..., SplitLoss]] = {
    "SplitInfoNCELoss": SplitInfoNCELoss,
    "SplitMarginLoss": SplitMarginLoss,
}
WEIGHT_DECAY = 1e-4
# With backbone and image size.
END_TO_END = {"digits": ("test_convnext", 32), "omniglot": ("test_resnet", 48)}
SAMPLES = {"digits": 8_000, "omniglot": 10_000}


@dataclass(frozen=True)
class Training:
    """What tells one training from another.

    Args:
        dataset:
            ``"digits"``, ``"cub200"``, ``"flowers102"`` or ``"omniglot"``.
        loss, arguments:
            The loss's name, and what it is made with as JSON.
        batch_size, seed:
            Of the training.
        classes:
            ``"validation"``, having trained on the training classes, or ``"test"``, having trained
            on training and validation classes.
    """

    dataset: str
    loss: str
    arguments: str
    batch_size: int
    seed: int
    classes: str


class Task:
    """A data set, and how it is trained on: end to end from random weights, or, as
    ``record_landscape.py`` does, the head alone."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self._dataset = _dataset(name, options)
        end_to_end = name in END_TO_END
        self._learning_rate = 3e-3 if end_to_end else 1e-3
        self._training = TrainingOptions(samples=SAMPLES.get(name, 20_000), n_evaluations=1)
        self._regime = _regime(name, self._dataset, options)
        test_share = 0.3 if name == "digits" else self._dataset.test_share
        (self._split,) = class_splits(self._dataset.n_classes, test_share=test_share)

    def scores(self, training: Training) -> tuple[float, float]:
        """MAP@R and Recall@1; zeros where the loss diverges."""
        test = training.classes == "test"
        split, labels = self._split, self._dataset.labels
        items = indices_of(labels, split.train_and_validation if test else split.train)
        others = indices_of(labels, split.test if test else split.validation)
        batches = MPerClassBatchSampler(
            labels[items],
            batch_size=training.batch_size,
            n_batches=self._training.n_steps(training.batch_size),
            generator=np.random.default_rng(training.seed),
        )
        torch.manual_seed(training.seed)
        model = self._regime.model(items)
        try:
            _, embeddings = train(
                model,
                loss_of(training),
                (items[batch] for batch in batches),
                self._regime.training_inputs,
                labels,
                options=self._training,
                batch_size=training.batch_size,
                learning_rate=self._learning_rate,
                weight_decay=WEIGHT_DECAY,
                evaluate=lambda: (0.0, self._regime.embed(model, others)),
            )
        except DivergedError:
            return 0.0, 0.0
        metrics = retrieval_metrics(embeddings, torch.from_numpy(labels[others]))
        return metrics.map_at_r, metrics.recall[1]


class Whole(nn.Module):
    """A loss that is not split, where the training loop expects one that is."""

    balance = 0.0

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self._loss = loss

    def terms(self, embeddings: Tensor, labels: Tensor) -> SplitTerms:
        value = self._loss(embeddings, labels)
        return SplitTerms(value, value)

    def balanced(self, terms: SplitTerms) -> Tensor:
        return terms.positive


def loss_of(training: Training) -> SplitLoss:
    arguments = json.loads(training.arguments)
    if training.loss in LOSSES:
        return LOSSES[training.loss](**arguments)
    peer = getattr(pytorch_metric_learning.losses, training.loss)
    return cast(SplitLoss, Whole(peer(**arguments)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cub", type=Path, metavar="DIR")
    parser.add_argument("--flowers", type=Path, metavar="DIR")
    parser.add_argument("--omniglot", type=Path, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="FILE")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time")


def trained(
    trainings: Sequence[Training], path: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of these trainings; those that are missing in the file are trained first."""
    done = _read(path)
    missing = [training for training in trainings if training not in done]
    names = [*Training.__dataclass_fields__, "map_at_r", "recall_1", "seconds"]
    with (
        ProcessPoolExecutor(options.jobs, get_context("spawn"), _start, (options,)) as pool,
        path.open("a", newline="") as file,
    ):
        writer = csv.DictWriter(file, names)
        if not file.tell():
            writer.writeheader()
        futures = [pool.submit(_train, training) for training in missing]
        for future in tqdm(as_completed(futures), path.stem, len(futures)):
            writer.writerow(future.result())
            file.flush()
    rows = _read(path)
    return [rows[training] for training in trainings]


def _read(path: Path) -> dict[Training, dict[str, Any]]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = [_typed(row) for row in csv.DictReader(file)]
    return {Training(**{n: row[n] for n in Training.__dataclass_fields__}): row for row in rows}


def _typed(row: dict[str, str]) -> dict[str, Any]:
    numbers = {n: float(row[n]) for n in ("map_at_r", "recall_1", "seconds")}
    return {**row, "batch_size": int(row["batch_size"]), "seed": int(row["seed"]), **numbers}


_options: argparse.Namespace
_tasks: dict[str, Task] = {}


def _start(options: argparse.Namespace) -> None:
    global _options
    _options = options
    torch.set_num_threads(1)


def _train(training: Training) -> dict[str, Any]:
    if training.dataset not in _tasks:
        _tasks[training.dataset] = Task(training.dataset, _options)
    start = time.perf_counter()
    map_at_r, recall = _tasks[training.dataset].scores(training)
    seconds = time.perf_counter() - start
    return {
        **asdict(training),
        "map_at_r": round(map_at_r, 5),
        "recall_1": round(recall, 5),
        "seconds": round(seconds, 2),
    }


def _dataset(name: str, options: argparse.Namespace) -> LabelledImages:
    if name == "digits":
        return Digits()
    if name == "omniglot":
        return Omniglot(options.omniglot)
    return CUB200(options.cub) if name == "cub200" else ImageFolder(options.flowers)


def _regime(name: str, dataset: LabelledImages, options: argparse.Namespace) -> Regime:
    common = partial(dict, device=torch.device("cpu"), cache_directory=default_cache_directory())
    if name in END_TO_END:
        model, size = END_TO_END[name]
        backbone = BackboneOptions(model, "random", size)
        augmentation = Augmentation(min_area=0.6, rotation=15.0, flip=False)
        return EndToEnd(dataset, backbone, **common(embedding_dim=64, augmentation=augmentation))
    size = 128 if name == "cub200" else 64
    backbone = BackboneOptions("tf_efficientnet_lite0", options.weights, size)
    return HeadOnly(dataset, backbone, **common(embedding_dim=128))
