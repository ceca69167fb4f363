"""What the loss is like over a training, found out without waiting for the device."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cbal_optuna.losses import SplitTerms
from cbal_optuna.training.device_rows import on_device


#: Points of a curve; a training of fewer steps has one for each step.
MOST_POINTS = 50
# Steps that are noted one by one and taken in together, as that is many small operations.
_NOTED = 64


class Health(NamedTuple):
    """Of a step.

    Args:
        value:
            The sum of the loss's terms.
        embeddings_finite:
            Whether the sum of the embeddings was finite.
    """

    value: float
    embeddings_finite: bool


class LossMonitor:
    """Sums of the loss's terms over the steps of each of up to 50 equal parts of a training, and
    the first step in which they were not finite.

    They are kept on the device. Only to read them waits for it.
    """

    def __init__(self, n_steps: int, device: torch.device) -> None:
        self._n_steps = n_steps
        self._sums = torch.zeros(min(MOST_POINTS, n_steps), 2, device=device)
        # Health as numbers, of the first step that is not well if there is one.
        self._health = torch.zeros(2, device=device)
        self._noted: list[Tensor] = []
        self._parts: list[int] = []

    def add(self, step: int, terms: SplitTerms, embeddings: Tensor) -> None:
        """Those of a step, the first one being 0."""
        self._parts.append(step * len(self._sums) // self._n_steps)
        self._noted += (*terms, embeddings.sum(dtype=self._sums.dtype))
        if len(self._parts) == _NOTED:
            self._take_in()

    def health(self) -> Health:
        """Of the first step whose terms were not finite, or of one that is well."""
        self._take_in()
        value, finite = self._health.tolist()
        return Health(value, bool(finite))

    def curve(self) -> dict[str, list[float]]:
        """The mean of each term in each part, once all steps are done."""
        self._take_in()
        parts = np.arange(self._n_steps) * len(self._sums) // self._n_steps
        means = self._sums.cpu().double().numpy() / np.bincount(parts)[:, None]
        return {name: means[:, i].tolist() for i, name in enumerate(SplitTerms._fields)}

    def state_dict(self) -> dict[str, Any]:
        """Tensors, not copied."""
        self._take_in()
        return {"sums": self._sums, "health": self._health}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from these."""
        self._sums.copy_(state["sums"])
        self._health.copy_(state["health"])

    def _take_in(self) -> None:
        if not self._parts:
            return
        noted = torch.stack(self._noted).to(self._sums.dtype).view(-1, 3)
        terms, embeddings = noted[:, :2], noted[:, 2]
        parts = on_device(torch.tensor(self._parts), noted.device)
        self._sums.index_add_(0, parts, terms)
        values = terms.sum(dim=1)
        health = torch.stack((values, embeddings.isfinite().to(values)), dim=1)
        # The first of the largest; where all are well, the first.
        worst = values.isfinite().logical_not().int().argmax(dim=0, keepdim=True)
        worst_health = health.index_select(0, worst)[0]
        self._health = torch.where(self._health[0].isfinite(), worst_health, self._health)
        self._noted.clear()
        self._parts.clear()
