"""How fast a trial trains: ``results/training.json``, on a GPU ``training_cuda.json``.

::

    python benchmarks/training.py --cub DIR

DIR is the folder of CUB-200. Samples per second, random weights, in turns in one process:

* ``trial``: of the steps of a trial, evaluations apart;
* ``bound``: of forward, loss, backward and optimizer step alone, on random data that lies on the
  device. The loss is the trial's, as it is part of what a training computes; ``bound, no loss``
  has the mean of squares in its place, and says what the loss costs;
* ``DataLoader``: of the same training as usually written (``usual_training.py``), with two workers
  and without: on two cores, torch's threads and the workers are in each other's way. What is
  compared is the faster of the two;
* ``loader``: of that DataLoader with nothing else to do. Where it is below the bound, the usual
  training is bound by data.

On a CPU all have the same two cores: the threads of torch and the workers of the DataLoader. Head
only, torch has one thread, as in a trial. The large JPEGs are CUB's 128 pixels enlarged to 500: as
much work to decode as photographs of that size, though no more detail.

``profile`` is the time of a step of the trial by groups of operations, in milliseconds, under
torch's profiler. ``results/training_before.json`` is what this script, as it then was, wrote of
the package at 7337945, before its training was made faster: with a bound without loss, and without
a limit of cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Generator
from dataclasses import dataclass
from dataclasses import field
import os
from pathlib import Path
import statistics
from tempfile import TemporaryDirectory
import time
from typing import Any

import numpy as np
from PIL import Image
from pytorch_metric_learning.losses import SupConLoss
from record import RESULTS
from record import write_record
from tables import rst_table
import torch
from torch import nn
from torch import Tensor
from torch.profiler import profile
from torch.profiler import ProfilerActivity
from torch.utils.data import Dataset
from torch.utils.data import TensorDataset
from usual_training import endless_batches
from usual_training import READY_OF_A_WORKER
from usual_training import Transformed
from usual_training import WORKERS

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna.data import CUB200
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import ImageFolder
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import MPerClassBatchSampler
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import HeadOnly
from cbal_optuna.training import Regime
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import ViewAugmentation


EMBEDDING_DIM = 128
IMAGES_PER_CLASS = 4
CORES = 2
LARGE, LARGE_IMAGES = 500, 1024
TRIAL, BOUND, NO_LOSS, LOADER = "trial", "bound", "bound, no loss", "loader"
# The usual training, by the number of workers of its DataLoader.
USUAL = {"DataLoader": WORKERS, "DataLoader, no workers": 0}
# By what the names of torch's operations begin with; what is none of these is "other".
OPERATIONS = {
    "convolution": ("aten::mkldnn_convolution", "aten::convolution", "aten::cudnn_convolution"),
    "batch norm": ("aten::native_batch_norm", "aten::cudnn_batch_norm"),
    "matrix product": ("aten::mm", "aten::addmm", "aten::bmm"),
    "resampling": ("aten::grid_sampler", "aten::affine_grid"),
    "random numbers": ("aten::bernoulli", "aten::uniform", "aten::random", "aten::normal"),
    "optimizer": ("aten::_fused_adamw", "Optimizer."),
    "copies": ("aten::copy", "aten::index", "aten::cat", "aten::clone", "aten::fill"),
}

# Train on a number of batches.
Steps = Callable[[int], None]
# Train on a case's number of batches, and say how many seconds it took.
Turn = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """One training; so many steps make a turn."""

    name: str
    backbone: str
    image_size: int
    batch_size: int
    steps: int
    head_only: bool = False
    large_files: bool = False
    augmentation: Augmentation | ViewAugmentation = field(default_factory=Augmentation)


CASES = (
    Case("head only", "tf_efficientnet_lite0", 128, 128, 200, head_only=True),
    Case("small", "mobilenetv2_050", 96, 64, 4),
    Case("small, 500 px JPEGs", "mobilenetv2_050", 96, 64, 4, large_files=True),
    Case("small, views", "mobilenetv2_050", 96, 64, 4, augmentation=ViewAugmentation()),
    Case("ResNet-50", "resnet50", 96, 32, 2),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    results = []
    with TemporaryDirectory() as directory:
        small: LabelledImages = CUB200(options.cub)
        large = enlarged(small, Path(directory) / "large")
        for case in CASES:
            if device.type == "cpu":
                torch.set_num_threads(1 if case.head_only else CORES)
            dataset, cache = small, default_cache_directory()
            if case.large_files:
                dataset, cache = large, Path(directory)
            results.append(compared(case, dataset, device, cache, options.rounds))
    suffix = "" if options.device == "cpu" else f"_{options.device}"
    write_record(RESULTS / f"training{suffix}.json", results, ["pytorch-metric-learning"])
    print(table(results))


def enlarged(dataset: LabelledImages, directory: Path) -> ImageFolder:
    """Some of the images as large JPEG files."""
    chosen = np.linspace(0, len(dataset) - 1, LARGE_IMAGES).astype(int)
    for i in chosen:
        folder = directory / f"class_{dataset.labels[i]}"
        folder.mkdir(parents=True, exist_ok=True)
        image = dataset.image(i).resize((LARGE, LARGE), Image.Resampling.BICUBIC)
        image.save(folder / f"{i}.jpg", quality=90)
    return ImageFolder(directory)


def compared(
    case: Case, dataset: LabelledImages, device: torch.device, cache: Path, rounds: int
) -> dict[str, Any]:
    regime = regime_of(case, dataset, device, cache)
    trial_steps = trial(case, dataset, regime)
    contenders: dict[str, Turn] = {
        TRIAL: turn_of(trial_steps, case, device),
        BOUND: turn_of(bound(case, dataset, regime, SplitInfoNCELoss()), case, device),
        NO_LOSS: turn_of(bound(case, dataset, regime, mean_square), case, device),
        **{name: usual(case, dataset, regime, device, n) for name, n in USUAL.items()},
        LOADER: usual(case, dataset, regime, device, WORKERS, training=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + rounds):
        for name, turn in contenders.items():
            rates[name].append(case.steps * case.batch_size / turn())
    # The first turns warm caches up.
    rates = {name: own[1:] for name, own in rates.items()}
    medians = {name: statistics.median(own) for name, own in rates.items()}

    def median_ratio(other: str) -> float:
        """Of turns next to each other: the machine may be slower in some."""
        return statistics.median(a / b for a, b in zip(rates[TRIAL], rates[other]))

    return {
        "case": case.name,
        "backbone": case.backbone,
        "image_size": case.image_size,
        "batch_size": case.batch_size,
        "samples_per_second": {name: round(rate, 1) for name, rate in medians.items()},
        "share_of_bound": round(median_ratio(BOUND), 3),
        "share_of_bound_without_loss": round(median_ratio(NO_LOSS), 3),
        "times_the_usual": round(min(map(median_ratio, USUAL)), 2),
        "usual_is_bound_by_data": medians[LOADER] < medians[BOUND],
        "profile": profiled(trial_steps, case.steps),
    }


def turn_of(steps: Steps, case: Case, device: torch.device) -> Turn:
    def turn() -> float:
        start = time.perf_counter()
        steps(case.steps)
        wait_for(device)
        return time.perf_counter() - start

    return turn


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def profiled(steps: Steps, n: int) -> dict[str, float]:
    """Milliseconds of a step, by groups of operations."""
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        steps(n)
        total = time.perf_counter() - start
    groups = dict.fromkeys((*OPERATIONS, "other operations", "Python"), 0.0)
    for event in profiler.key_averages():
        names = (group for group, begin in OPERATIONS.items() if event.key.startswith(begin))
        groups[next(names, "other operations")] += event.self_cpu_time_total / 1e6
    groups["Python"] = total - sum(groups.values())
    return {name: round(1e3 * seconds / n, 3) for name, seconds in groups.items()}


def regime_of(case: Case, dataset: LabelledImages, device: torch.device, cache: Path) -> Regime:
    options = BackboneOptions(case.backbone, "random", case.image_size)
    if case.head_only:
        return HeadOnly(
            dataset, options, embedding_dim=EMBEDDING_DIM, device=device, cache_directory=cache
        )
    return EndToEnd(
        dataset,
        options,
        embedding_dim=EMBEDDING_DIM,
        augmentation=case.augmentation,
        device=device,
        cache_directory=cache,
    )


def trial(case: Case, dataset: LabelledImages, regime: Regime) -> Steps:
    model = regime.model(items_of(dataset))

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
            sampler,
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
) -> Steps:
    items = items_of(dataset)
    model = regime.model(items)
    batch = torch.rand_like(regime.inputs(items[: case.batch_size]))
    labels = torch.arange(case.batch_size, device=batch.device) // IMAGES_PER_CLASS
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def steps(n: int) -> None:
        for _ in range(n):
            step(model, batch, labels, criterion, optimizer)

    return steps


def mean_square(embeddings: Tensor, labels: Tensor) -> Tensor:
    return embeddings.square().mean()


def usual(
    case: Case,
    dataset: LabelledImages,
    regime: Regime,
    device: torch.device,
    workers: int,
    *,
    training: bool = True,
) -> Turn:
    """Trains, or only loads, the batches of a new DataLoader in each turn: the workers of an old
    one would go on in the turns of others."""
    model = regime.model(items_of(dataset))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    criterion = SupConLoss()

    def turn() -> float:
        batches = usual_batches(case, dataset, regime, workers)
        for _ in range(max(1, READY_OF_A_WORKER * workers)):
            next(batches)
        start = time.perf_counter()
        for _ in range(case.steps):
            images, labels = next(batches)
            images, labels = images.to(device, non_blocking=True), labels.to(device)
            if training:
                step(model, images, labels, criterion, optimizer)
        wait_for(device)
        seconds = time.perf_counter() - start
        batches.close()
        return seconds

    return turn


def step(
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


def usual_batches(
    case: Case, dataset: LabelledImages, regime: Regime, workers: int
) -> Generator[Any, None, None]:
    samples: Dataset[Any] = Transformed(
        dataset, case.image_size, views=isinstance(case.augmentation, ViewAugmentation)
    )
    if case.head_only:
        features = regime.inputs(items_of(dataset)).cpu()
        samples = TensorDataset(features, torch.from_numpy(dataset.labels))
    return endless_batches(samples, dataset.labels, case.batch_size, IMAGES_PER_CLASS, workers)


def items_of(dataset: LabelledImages) -> np.ndarray:
    return np.arange(len(dataset))


def table(results: list[dict[str, Any]]) -> str:
    rows = [["Samples per second", "Trial", "Bound", "Of bound", "DataLoader", "Times faster"]]
    for row in results:
        rates = row["samples_per_second"]
        rows.append(
            [
                f"{row['case']}: {row['backbone']}, {row['image_size']} px, "
                f"batch {row['batch_size']}",
                f"{rates[TRIAL]:.0f}",
                f"{rates[BOUND]:.0f}",
                f"{row['share_of_bound']:.2f}",
                f"{max(map(rates.get, USUAL)):.0f}" + " (data)" * row["usual_is_bound_by_data"],
                f"{row['times_the_usual']:.1f}",
            ]
        )
    return rst_table(rows)


if __name__ == "__main__":
    main()
