"""All similarities at once, and masks over them: for chosen pairs and for second derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cbal_optuna.losses.pairing import Pairing


def unit_vectors(embeddings: Tensor) -> Tensor:
    """Rows divided by their lengths.

    First by their largest entries, as the squares of large ones overflow. A zero row stays zero.
    Divided by infinity, it also gets no gradient; divided by the usual small constant, it would
    get one of 1e12.
    """
    largest = embeddings.detach().abs().amax(dim=1, keepdim=True)
    embeddings = embeddings / largest.clamp_min(torch.finfo(largest.dtype).tiny)
    length = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    unit: Tensor = embeddings / length.masked_fill(length == 0, torch.inf)
    return unit


def pairs_of_labels(pairing: Pairing, device: torch.device) -> tuple[Tensor, Tensor]:
    """The masks of positive and of negative pairs, (n, m)."""
    labels = pairing.labels.to(device)
    ref_labels = labels if pairing.ref_labels is None else pairing.ref_labels.to(device)
    positive = labels[:, None] == ref_labels
    negative = ~positive
    if pairing.self_start is not None:
        positive.diagonal(pairing.self_start).fill_(False)
    return positive, negative


def pairs_of_indices(indices_tuple: Sequence[Tensor], similarity: Tensor) -> tuple[Tensor, Tensor]:
    """The same, from lists of pairs or triplets.

    Raises:
        ValueError: If there are neither 3 nor 4 lists, or a pair is both positive and negative.
    """
    if len(indices_tuple) not in (3, 4):
        raise ValueError(
            f"`indices_tuple` has {len(indices_tuple)} parts, it must have 4 (anchors, positives, "
            "anchors, negatives) or 3 (anchors, positives, negatives)."
        )
    positive = torch.zeros_like(similarity, dtype=torch.bool)
    negative = torch.zeros_like(similarity, dtype=torch.bool)
    positive[indices_tuple[0], indices_tuple[1]] = True
    negative[indices_tuple[-2 if len(indices_tuple) == 4 else 0], indices_tuple[-1]] = True
    if (positive & negative).any():
        raise ValueError(
            "`indices_tuple` names a pair as both positive and negative, it must be one of them."
        )
    return positive, negative


def positive_term(similarity: Tensor, positive: Tensor) -> Tensor:
    size = positive.sum(dim=1)
    total = torch.where(positive, similarity, 0.0).sum(dim=1)
    return -mean_where(total / size.clamp_min(1), size > 0)


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the (n,) values at valid anchors; zero, with a gradient, if there is none."""
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp_min(1)
