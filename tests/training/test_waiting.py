"""Steps never read what is on the device, so that a GPU is not waited for. On torch's ``meta``
device there is nothing to read: who tries fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import ViewAugmentation
from cbal_optuna.training.backbone import Backbone
from cbal_optuna.training.model import EmbeddingModel
from cbal_optuna.training.model import FeatureHead


DEVICE = torch.device("meta")


class EnoughStepsError(Exception):
    pass


@pytest.fixture(autouse=True)
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of what torch has for GPUs and CPUs only."""

    class AdamW(torch.optim.AdamW):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "fused": False})

    monkeypatch.setattr(torch.optim, "AdamW", AdamW)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


def do_steps(
    model: nn.Module,
    loss: SplitLoss,
    shape: tuple[int, ...],
    *,
    n_steps: int = 2,
    batch_size: int = 32,
    augmentation: Callable[[Tensor], Tensor] = lambda images: images,
    **options: Any,
) -> None:
    drawn = 0

    def inputs(items: np.ndarray) -> Tensor:
        nonlocal drawn
        drawn += 1
        if drawn > n_steps:
            raise EnoughStepsError
        return augmentation(torch.rand(len(items), *shape, device=DEVICE))

    with pytest.raises(EnoughStepsError):
        train(
            model.to(DEVICE),
            loss,
            repeat(np.arange(batch_size)),
            inputs,
            np.arange(batch_size) // 4,
            options=TrainingOptions(samples=2 * n_steps * batch_size, n_evaluations=1, **options),
            batch_size=batch_size,
            learning_rate=1e-3,
            weight_decay=1e-4,
            evaluate=lambda: (0.0, None),
        )


def learned(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, device=DEVICE))


# Small batches and larger ones take different paths.
@pytest.mark.parametrize("batch_size", [32, 256])
@pytest.mark.parametrize(
    "loss",
    [
        SplitInfoNCELoss(),
        SplitInfoNCELoss(temperature=0.01, denominator="all"),
        SplitInfoNCELoss(balance=learned(2.0), temperature=learned(0.1)),
        SplitMarginLoss(),
        SplitMarginLoss(margin=learned(0.5), aggregation="all"),
    ],
    ids=["infonce", "low", "learned", "margin", "learned margin"],
)
def test_losses_read_nothing(loss: SplitLoss, batch_size: int) -> None:
    do_steps(FeatureHead(torch.rand(50, 64), 16), loss, (64,), batch_size=batch_size)


def test_many_steps_read_nothing() -> None:
    """As many as the monitor of the loss takes in at once, and more."""
    do_steps(FeatureHead(torch.rand(50, 64), 16), SplitInfoNCELoss(), (64,), n_steps=70)


@pytest.mark.parametrize("micro_batch", ["auto", 8])
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize(
    "augmentation", [Augmentation(rotation=10.0), ViewAugmentation(blurred=0.5)]
)
def test_images_and_networks_are_not_read(
    augmentation: Callable[[Tensor], Tensor], batch_norm: str, micro_batch: int | str
) -> None:
    model = EmbeddingModel(Backbone(BackboneOptions("test_resnet", "random", 32)), 8, "mlp")
    do_steps(
        model,
        SplitInfoNCELoss(),
        (3, 32, 32),
        augmentation=augmentation,
        batch_norm=batch_norm,
        micro_batch=micro_batch,
    )
