"""The data of a training as usually written: torch's DataLoader, torchvision's
transforms one image at a time, pytorch-metric-learning's sampler."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from pytorch_metric_learning.samplers import MPerClassSampler
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset
from torchvision import transforms

from cbal_optuna.data import LabelledImages


WORKERS = 2
# Batches that a worker has under way.
READY_OF_A_WORKER = 2


class Transformed(Dataset[Any]):
    """Images read from their files and transformed one by one, with their labels.

    Args:
        dataset:
            The images.
        image_size:
            Side of the crops, in pixels.
        views:
            Whether colours change too, as in SimCLR.
    """

    def __init__(self, dataset: LabelledImages, image_size: int, *, views: bool) -> None:
        self._dataset = dataset
        jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
        colours = [transforms.RandomApply([jitter], p=0.8), transforms.RandomGrayscale(p=0.2)]
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(image_size, scale=(0.2, 1.0)),
                transforms.RandomHorizontalFlip(),
                *(colours if views else ()),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._dataset.image(index)), int(self._dataset.labels[index])


def endless_batches(
    samples: Dataset[Any], labels: np.ndarray, batch_size: int, images_per_class: int, workers: int
) -> Generator[Any, None, None]:
    """Batches of inputs and labels."""
    sampler = MPerClassSampler(
        labels, images_per_class, batch_size, length_before_new_iter=100_000
    )
    batches = DataLoader(
        samples,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    while True:
        yield from batches
