"""The trainings whose speed is measured."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np
from PIL import Image
import torch

from cbal_optuna.data import ImageFolder
from cbal_optuna.data import LabelledImages
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import HeadOnly
from cbal_optuna.training import Regime
from cbal_optuna.training import ViewAugmentation


EMBEDDING_DIM = 128
IMAGES_PER_CLASS = 4
CORES = 2
_LARGE, _LARGE_IMAGES = 500, 1024


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
    cache_images: bool = True
    augmentation: Augmentation | ViewAugmentation = field(default_factory=Augmentation)

    @property
    def threads(self) -> int:
        """Those of torch on a CPU."""
        return 1 if self.head_only else CORES

    @property
    def samples(self) -> int:
        """In a turn."""
        return self.steps * self.batch_size


CASES = (
    Case("head only", "tf_efficientnet_lite0", 128, 128, 200, head_only=True),
    Case("small", "mobilenetv2_050", 96, 64, 4),
    Case("small, 500 px JPEGs", "mobilenetv2_050", 96, 64, 4, large_files=True),
    Case(
        "small, 500 px JPEGs decoded each time",
        "mobilenetv2_050",
        96,
        64,
        4,
        large_files=True,
        cache_images=False,
    ),
    Case("small, views", "mobilenetv2_050", 96, 64, 4, augmentation=ViewAugmentation()),
    Case("ResNet-50", "resnet50", 96, 32, 2),
)


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
        cache_directory=cache if case.cache_images else None,
    )


def enlarged(dataset: LabelledImages, directory: Path) -> ImageFolder:
    """Some of the images as large JPEG files."""
    chosen = np.linspace(0, len(dataset) - 1, _LARGE_IMAGES).astype(int)
    for i in chosen:
        folder = directory / f"class_{dataset.labels[i]}"
        folder.mkdir(parents=True, exist_ok=True)
        image = dataset.image(i).resize((_LARGE, _LARGE), Image.Resampling.BICUBIC)
        image.save(folder / f"{i}.jpg", quality=90)
    return ImageFolder(directory)
