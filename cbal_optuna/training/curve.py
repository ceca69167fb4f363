"""The two terms of the loss over a training, found out without waiting for the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cbal_optuna.losses import SplitTerms


#: Points of a curve; a training of fewer steps has one for each step.
MOST_POINTS = 50


class TermSums:
    """Sums of the terms over the steps of each of up to 50 equal parts of a training.

    They are kept on the device. Only to ask whether they are finite and to read the curve waits
    for it.

    Attributes:
        sums:
            Shape (points, 2).
    """

    def __init__(self, n_steps: int, device: torch.device) -> None:
        self._n_steps = n_steps
        self.sums = torch.zeros(min(MOST_POINTS, n_steps), 2, device=device)

    def add(self, step: int, terms: SplitTerms) -> None:
        """Those of a step, the first one being 0."""
        self.sums[step * len(self.sums) // self._n_steps] += torch.stack(terms)

    def total(self) -> SplitTerms:
        """Over all steps so far."""
        return SplitTerms(*self.sums.sum(dim=0))

    def load(self, sums: Tensor) -> None:
        """Go on from these sums."""
        self.sums.copy_(sums)

    def curve(self) -> dict[str, list[float]]:
        """The mean of each term in each part, once all steps are done."""
        parts = np.arange(self._n_steps) * len(self.sums) // self._n_steps
        means = self.sums.cpu().double().numpy() / np.bincount(parts)[:, None]
        return {name: means[:, i].tolist() for i, name in enumerate(SplitTerms._fields)}
