"""Embeddings of the tiny data set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cbal_optuna.data import LabelledImages
from cbal_optuna.pictures import Embedded


@pytest.fixture
def embedded(colours: LabelledImages) -> Callable[..., Embedded]:
    """Makes embeddings of images: the direction of the class, and noise."""

    def make(noise: float = 0.1, items: np.ndarray | None = None, width: int = 16) -> Embedded:
        items = np.arange(len(colours)) if items is None else items
        generator = torch.Generator().manual_seed(0)
        centres = torch.randn(colours.n_classes, width, generator=generator)
        own = centres[torch.from_numpy(colours.labels[items])]
        return Embedded(items, own + noise * torch.randn(own.shape, generator=generator))

    return make
