"""Images and what a model makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Embedded:
    """Images of a data set, embedded.

    Attributes:
        items:
            Their indices in the data set, int64 of shape (n,).
        embeddings:
            Shape (n, d), of any length.
    """

    items: np.ndarray
    embeddings: Tensor

    def of(self, chosen: np.ndarray) -> Embedded:
        """A part, by positions or by a mask."""
        rows = torch.from_numpy(chosen).to(self.embeddings.device)
        return Embedded(self.items[chosen], self.embeddings[rows])
