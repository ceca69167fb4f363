"""Whether an embedding has collapsed onto one direction, so that it tells nothing apart.

Of unit embeddings z_i with similarities s_ij = z_i . z_j::

    spread          1 - mean over pairs of s_ij    =  1 - |mean of z|^2
    effective rank  1 / mean over pairs of s_ij^2  =  1 / sum of the squared eigenvalues of the
                                                          mean of z z^T

The effective rank, a participation ratio, is d where all d directions are used alike, and 1 where
all embeddings are the same, which has spread 0, or lie on two opposite points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cbal_optuna.evaluation.retrieval import unit_embeddings


# Below it, pairs of embeddings have cosines of 0.95 and more.
LEAST_RANK = 1.1


@dataclass(frozen=True)
class EmbeddingSpread:
    """How much of the space embeddings take.

    Attributes:
        spread: From 0 to 1, see above.
        effective_rank: From 1 to the number of dimensions, see above.
    """

    spread: float
    effective_rank: float

    @property
    def collapsed(self) -> bool:
        """Whether it is next to a single direction."""
        return self.effective_rank < LEAST_RANK


def embedding_spread(embeddings: Tensor) -> EmbeddingSpread:
    """How much of the space the directions of embeddings take.

    Args:
        embeddings: Shape (n, d), of any length.

    Raises:
        ValueError: If the shape or the type does not fit, or an embedding is not finite.
    """
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        unit = unit_embeddings(embeddings).double()
        second_moment = unit.T @ unit / len(unit)
        spread = 1.0 - unit.mean(dim=0).square().sum()
        # Zero vectors have no direction: if all are, their rank is the least.
        rank = second_moment.trace() ** 2 / second_moment.square().sum().clamp_min(1e-12)
    return EmbeddingSpread(spread.clamp(0, 1).item(), rank.clamp_min(1.0).item())
