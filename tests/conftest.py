"""A tiny data set, and an objective on it that trains in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
import os
from typing import Any


# Networks this small are slower on several threads, and much slower where others want the cores
# too. Set before torch is loaded, for the tests and the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from optuna.distributions import CategoricalDistribution
from PIL import Image
import pytest

from cbal_optuna.data import LabelledImages
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.training import TrainingOptions


class NoisyColours(LabelledImages):
    """Twelve classes of ten images: the colour of the class, more or less."""

    def __init__(self, n_classes: int = 12, n_images: int = 10) -> None:
        labels = np.repeat(np.arange(n_classes), n_images)
        super().__init__("noisy colours", labels, [f"colour {c}" for c in range(n_classes)])
        rng = np.random.default_rng(0)
        colours = rng.integers(0, 256, (n_classes, 1, 1, 3))
        noise = rng.normal(0, 60, (len(labels), 1, 1, 3)) + rng.normal(
            0, 60, (len(labels), 16, 16, 3)
        )
        self._pixels = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index])

    def fingerprint(self) -> str:
        return f"noisy-colours-{self.n_classes}-{len(self)}"


def small_batches(loss: str) -> SearchSpace:
    return SearchSpace(loss, batch_size=CategoricalDistribution((8, 16, 32)))


@pytest.fixture
def colours() -> LabelledImages:
    return NoisyColours()


@pytest.fixture
def tiny_objective(
    colours: LabelledImages, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RetrievalObjective]:
    """Makes head-only objectives; keyword arguments replace its own."""

    def make(**arguments: Any) -> RetrievalObjective:
        own: dict[str, Any] = {
            "backbone": "test_resnet",
            "weights": "random",
            "image_size": 32,
            "head_only": True,
            "embedding_dim": 8,
            "training": TrainingOptions(samples=512, n_evaluations=2),
            "cache_directory": tmp_path_factory.getbasetemp() / "cache",
        }
        own["space"] = small_batches(arguments.get("loss", "infonce"))
        return RetrievalObjective(colours, **{**own, **arguments})

    return make
