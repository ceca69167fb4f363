"""How fast a trial trains: ``results/training.json``, on a GPU ``training_cuda.json``.

::

    OMP_NUM_THREADS=2 python benchmarks/training.py --cub DIR

DIR is the folder of CUB-200. Samples per second of the steps of a trial, evaluations apart; of
forward, backward and optimizer step alone, on random data that lies on the device; and of the same
training as usually written: torch's DataLoader with two workers, torchvision's transforms,
pytorch-metric-learning's sampler and loss. In turns in one process, random weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import statistics
import time
from typing import Any

import numpy as np
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.samplers import MPerClassSampler
from record import RESULTS
from record import write_record
from tables import rst_table
import torch
from torch import nn
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset
from torch.utils.data import TensorDataset
from torchvision import transforms

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna.data import CUB200
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import MPerClassBatchSampler
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import HeadOnly
from cbal_optuna.training import Regime
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions


EMBEDDING_DIM = 128
IMAGES_PER_CLASS = 4
ROUNDS = 5
TRIAL, BOUND, USUAL = "trial", "bound", "DataLoader"

# Train on a number of batches.
Steps = Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """One training; so many steps make a turn."""

    name: str
    backbone: str
    image_size: int
    batch_size: int
    steps: int
    head_only: bool = False


CASES = (
    Case("head only", "tf_efficientnet_lite0", 128, 128, 200, head_only=True),
    Case("small", "mobilenetv2_050", 96, 64, 4),
    Case("ResNet-50", "resnet50", 96, 32, 3),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    dataset, device = CUB200(options.cub), torch.device(options.device)
    results = [compared(case, dataset, device) for case in CASES]
    suffix = "" if options.device == "cpu" else f"_{options.device}"
    write_record(RESULTS / f"training{suffix}.json", results, ["pytorch-metric-learning"])
    print(table(results))


def compared(case: Case, dataset: LabelledImages, device: torch.device) -> dict[str, Any]:
    regime = regime_of(case, dataset, device)
    contenders: dict[str, Steps] = {
        TRIAL: trial(case, dataset, regime),
        BOUND: bound(case, dataset, regime),
        USUAL: usual(case, dataset, regime, device),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for steps in contenders.values():
        steps(1)
    for _ in range(ROUNDS):
        for name, steps in contenders.items():
            start = time.perf_counter()
            steps(case.steps)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            rates[name].append(case.steps * case.batch_size / seconds)
    medians = {name: statistics.median(own) for name, own in rates.items()}
    return {
        "case": case.name,
        "backbone": case.backbone,
        "image_size": case.image_size,
        "batch_size": case.batch_size,
        "samples_per_second": {name: round(rate, 1) for name, rate in medians.items()},
        "share_of_bound": round(medians[TRIAL] / medians[BOUND], 3),
        "times_the_usual": round(medians[TRIAL] / medians[USUAL], 2),
    }


def regime_of(case: Case, dataset: LabelledImages, device: torch.device) -> Regime:
    options = BackboneOptions(case.backbone, "random", case.image_size)
    cache = default_cache_directory()
    if case.head_only:
        return HeadOnly(
            dataset, options, embedding_dim=EMBEDDING_DIM, device=device, cache_directory=cache
        )
    return EndToEnd(
        dataset,
        options,
        embedding_dim=EMBEDDING_DIM,
        augmentation=Augmentation(),
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


def bound(case: Case, dataset: LabelledImages, regime: Regime) -> Steps:
    items = items_of(dataset)
    model = regime.model(items)
    batch = torch.rand_like(regime.inputs(items[: case.batch_size]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def steps(n: int) -> None:
        for _ in range(n):
            step(model, batch, lambda embeddings: embeddings.square().mean(), optimizer)

    return steps


def usual(case: Case, dataset: LabelledImages, regime: Regime, device: torch.device) -> Steps:
    model = regime.model(items_of(dataset))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    criterion = SupConLoss()
    batches = endless(loader(case, dataset, regime))

    def steps(n: int) -> None:
        for _ in range(n):
            images, labels = next(batches)
            images, labels = images.to(device, non_blocking=True), labels.to(device)
            step(model, images, lambda x, labels=labels: criterion(x, labels), optimizer)

    return steps


def step(
    model: nn.Module,
    images: Tensor,
    criterion: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        embeddings = model(images)
    optimizer.zero_grad(set_to_none=True)
    criterion(embeddings.float()).backward()
    optimizer.step()


def loader(case: Case, dataset: LabelledImages, regime: Regime) -> DataLoader[Any]:
    sampler = MPerClassSampler(
        dataset.labels, IMAGES_PER_CLASS, case.batch_size, length_before_new_iter=100_000
    )
    images: Dataset[Any] = Transformed(dataset, case.image_size)
    if case.head_only:
        features = regime.inputs(items_of(dataset)).cpu()
        images = TensorDataset(features, torch.from_numpy(dataset.labels))
    return DataLoader(
        images,
        case.batch_size,
        sampler=sampler,
        num_workers=2,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=True,
    )


def endless(batches: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from batches


class Transformed(Dataset[Any]):
    """Images read from their files, cropped and mirrored one by one."""

    def __init__(self, dataset: LabelledImages, image_size: int) -> None:
        self._dataset = dataset
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(image_size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._dataset.image(index)), int(self._dataset.labels[index])


def items_of(dataset: LabelledImages) -> np.ndarray:
    return np.arange(len(dataset))


def table(results: list[dict[str, Any]]) -> str:
    rows = [["Samples per second", "Trial", "Bound", "Of bound", "DataLoader", "Times faster"]]
    for row in results:
        rates = row["samples_per_second"]
        name = row["case"] if row["case"] == "ResNet-50" else f"{row['case']}, {row['backbone']}"
        rows.append(
            [
                f"{name}, {row['image_size']} px, batch {row['batch_size']}",
                f"{rates[TRIAL]:.0f}",
                f"{rates[BOUND]:.0f}",
                f"{row['share_of_bound']:.2f}",
                f"{rates[USUAL]:.0f}",
                f"{row['times_the_usual']:.1f}",
            ]
        )
    return rst_table(rows)


if __name__ == "__main__":
    main()
