"""What trains in turns: a trial, the bound of one, and the same training as usually written."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
import time
from typing import Any

import numpy as np
from pytorch_metric_learning.losses import SupConLoss
import torch
from torch import nn
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data import TensorDataset
from training_cases import Case
from training_cases import IMAGES_PER_CLASS
from training_cases import regime_of
from usual_training import endless_batches
from usual_training import READY_OF_A_WORKER
from usual_training import Transformed

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import MPerClassBatchSampler
from cbal_optuna.training import Regime
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import ViewAugmentation


# Train on a number of batches.
Steps = Callable[[int], None]
# Train on a case's number of batches, and say how many seconds it took.
Turn = Callable[[], float]


def turn_of(steps: Steps, case: Case, device: torch.device) -> Turn:
    def turn() -> float:
        start = time.perf_counter()
        steps(case.steps)
        _wait_for(device)
        return time.perf_counter() - start

    return turn


def trial(case: Case, dataset: LabelledImages, regime: Regime) -> Steps:
    """Of a trial, but for its evaluations."""
    model = regime.model(_items_of(dataset))

    def steps(n: int) -> None:
        sampler = MPerClassBatchSampler(
            dataset.labels,
            batch_size=case.batch_size,
            images_per_class=IMAGES_PER_CLASS,
            n_batches=n,
            generator=np.random.default_rng(0),
        )
        train(
            model,
            SplitInfoNCELoss(),
            regime.ahead(sampler),
            regime.training_inputs,
            dataset.labels,
            options=TrainingOptions(samples=n * case.batch_size, n_evaluations=1),
            batch_size=case.batch_size,
            learning_rate=1e-4,
            weight_decay=1e-4,
            evaluate=lambda: (0.0, None),
        )

    return steps


def bound(
    case: Case,
    dataset: LabelledImages,
    regime: Regime,
    criterion: Callable[[Tensor, Tensor], Tensor],
    *,
    compiled: bool = False,
) -> Steps:
    """Forward, loss, backward and optimizer step alone, on random data on the device; compiled,
    the first step compiles the model."""
    items = _items_of(dataset)
    model = regime.model(items)
    if compiled:
        model.compile()
    batch = torch.rand_like(regime.inputs(items[: case.batch_size]))
    labels = torch.arange(case.batch_size, device=batch.device) // IMAGES_PER_CLASS
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def steps(n: int) -> None:
        for _ in range(n):
            _step(model, batch, labels, criterion, optimizer)

    return steps


def mean_square(embeddings: Tensor, labels: Tensor) -> Tensor:
    return embeddings.square().mean()


class UsualTraining:
    """A :data:`Turn` of the usual training, in a process of its own, as a trial changes how its
    process keeps memory.

    Args:
        case, dataset, device, cache:
            As for a trial.
        workers:
            Of the DataLoader.
        training:
            Whether to train, or only to load.
    """

    def __init__(
        self,
        case: Case,
        dataset: LabelledImages,
        device: torch.device,
        cache: Path,
        *,
        workers: int,
        training: bool = True,
    ) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        arguments = (other, case, dataset, device, cache, workers, training)
        self._process = context.Process(target=_take_turns, args=arguments)
        self._process.start()
        # This end is closed, so that the process ends with this one.
        other.close()

    def __call__(self) -> float:
        self._connection.send(None)
        seconds: float = self._connection.recv()
        return seconds

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def _take_turns(
    connection: Connection,
    case: Case,
    dataset: LabelledImages,
    device: torch.device,
    cache: Path,
    workers: int,
    training: bool,
) -> None:
    if device.type == "cpu":
        torch.set_num_threads(case.threads)
    turn = _usual(
        case, dataset, regime_of(case, dataset, device, cache), device, workers, training
    )
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        connection.send(turn())


def _usual(
    case: Case,
    dataset: LabelledImages,
    regime: Regime,
    device: torch.device,
    workers: int,
    training: bool,
) -> Turn:
    """The batches are of a new DataLoader in each turn: the workers of an old one would go on in
    the turns of others."""
    model = regime.model(_items_of(dataset))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    criterion = SupConLoss()

    def turn() -> float:
        batches = _usual_batches(case, dataset, regime, workers)
        for _ in range(max(1, READY_OF_A_WORKER * workers)):
            next(batches)
        start = time.perf_counter()
        for _ in range(case.steps):
            images, labels = next(batches)
            images, labels = images.to(device, non_blocking=True), labels.to(device)
            if training:
                _step(model, images, labels, criterion, optimizer)
        _wait_for(device)
        seconds = time.perf_counter() - start
        batches.close()
        return seconds

    return turn


def _usual_batches(
    case: Case, dataset: LabelledImages, regime: Regime, workers: int
) -> Generator[Any, None, None]:
    samples: Dataset[Any] = Transformed(
        dataset, case.image_size, views=isinstance(case.augmentation, ViewAugmentation)
    )
    if case.head_only:
        features = regime.inputs(_items_of(dataset)).cpu()
        samples = TensorDataset(features, torch.from_numpy(dataset.labels))
    return endless_batches(samples, dataset.labels, case.batch_size, IMAGES_PER_CLASS, workers)


def _step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        embeddings = model(images)
    optimizer.zero_grad(set_to_none=True)
    criterion(embeddings.float(), labels).backward()
    optimizer.step()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _items_of(dataset: LabelledImages) -> np.ndarray:
    return np.arange(len(dataset))
