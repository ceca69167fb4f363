"""What all losses share: the pairs of a batch, the positive term, and the balance.

Symbols, here and in the other modules of this package: z_i is embedding i divided by its length,
s_ij = z_i . z_j, P(i) are the references of anchor i's class, N(i) those of other classes. The
references are the batch itself without anchor i, or `ref_emb`. n anchors, m references.
"""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Sequence
import math
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor


class SplitTerms(NamedTuple):
    """The two numbers a contrastive loss is made of, each a 0-d tensor with a gradient.

    Attributes:
        positive: Pulls samples of one class together; between -1 and 1.
        entropy: Pushes samples apart.
    """

    positive: Tensor
    entropy: Tensor


class SplitLoss(torch.nn.Module, ABC):
    """Base of the split losses, L = P + balance * E, with the positive term::

        P = mean over anchors i with non-empty P(i) of  mean_{p in P(i)} ( -s_ip )

    and an entropy term E that the subclass gives. P is a mean over anchors, not over pairs: a
    class counts by its size, not by the square of its size.

    A term to which no anchor contributes (in a batch of one class, or of singletons) is zero, with
    a gradient of zero. An embedding of length zero has similarity 0 to all and gets no gradient.
    Similarities and terms are computed in float32 at least, with autocast off, whatever the dtype
    of the embeddings; float64 stays float64.

    The order of arguments is that of pytorch-metric-learning's losses, so that its miners and
    wrappers work with ours. Its wrappers know losses by class name, and must be told ours::

        class Memory(CrossBatchMemory):
            @staticmethod
            def supported_losses():
                return ["SplitInfoNCELoss", "SplitMarginLoss"]

    Args:
        balance: Weight of the entropy term, at least 0.

    Raises:
        ValueError: If `balance` is not a finite number, at least 0.
    """

    def __init__(self, balance: float = 1.0) -> None:
        super().__init__()
        self.balance = number_where(
            lambda weight: weight >= 0, "balance", balance, "of at least 0"
        )

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Sequence[Tensor] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss, a 0-d tensor; arguments as in `terms`."""
        terms = self.terms(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return self.balanced(terms)

    def balanced(self, terms: SplitTerms) -> Tensor:
        """The loss whose terms these are: the one place where they meet."""
        return terms.positive + self.balance * terms.entropy

    def terms(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Sequence[Tensor] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> SplitTerms:
        """The two terms, neither of them weighted.

        Args:
            embeddings: The anchors, (n, d) with n >= 1, of any length: they are normalised here.
            labels: Their classes, (n,) integers.
            indices_tuple: The pairs that count, instead of all those which the labels give: pairs
                (anchors, positives, anchors, negatives) or triplets (anchors, positives,
                negatives), as miners return them. A pair counts once, however often it is listed.
            ref_emb: The references, (m, d) with m >= 1; the batch itself by default.
            ref_labels: Their classes, (m,) integers. If this is the very tensor `labels`, then
                reference i is taken to be sample i, and not to be its own positive.

        Raises:
            ValueError: If a shape or dtype is not as said, `ref_emb` and `ref_labels` do not come
                together, `indices_tuple` has neither 3 nor 4 parts, or it names a pair as both
                positive and negative.
        """
        _check_batch("embeddings", embeddings, "labels", labels)
        if ref_emb is None and ref_labels is None:
            ref_emb, ref_labels = embeddings, labels
        else:
            ref_emb, ref_labels = _checked_references(ref_emb, ref_labels, embeddings.shape[1])

        with torch.autocast(embeddings.device.type, enabled=False):
            dtype = torch.promote_types(embeddings.dtype, ref_emb.dtype)
            dtype = torch.promote_types(dtype, torch.float32)
            anchors = _unit_vectors(embeddings.to(dtype))
            references = anchors if ref_emb is embeddings else _unit_vectors(ref_emb.to(dtype))
            similarity = anchors @ references.T
            if indices_tuple is None:
                positive, negative = _pairs_of_labels(labels, ref_labels, similarity.device)
            else:
                positive, negative = _pairs_of_indices(indices_tuple, similarity)
            return SplitTerms(
                _positive_term(similarity, positive),
                self._entropy(similarity, positive, negative),
            )

    @abstractmethod
    def _entropy(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The entropy term, 0-d, from s_ij and the masks of P(i) and N(i), all (n, m)."""

    def extra_repr(self) -> str:
        return f"balance={self.balance}"


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the (n,) values at valid anchors; zero, with a gradient, if there is none."""
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp_min(1)


def number_where(
    condition: Callable[[float], bool], name: str, value: object, allowed: str
) -> float:
    """The argument as a float, or ValueError if not a finite number that meets the condition."""
    number = float(value) if isinstance(value, Real) else math.nan
    if not math.isfinite(number) or not condition(number):
        raise ValueError(f"`{name}` is {value!r}, it must be a finite number {allowed}.")
    return number


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """The argument, or ValueError if it is none of the allowed words."""
    if value not in allowed:
        choices = " or ".join(repr(word) for word in allowed)
        raise ValueError(f"`{name}` is {value!r}, it must be {choices}.")
    return value


def _check_batch(emb_name: str, embeddings: Tensor, labels_name: str, labels: Tensor) -> None:
    if embeddings.ndim != 2 or len(embeddings) == 0 or not embeddings.is_floating_point():
        raise ValueError(
            f"`{emb_name}` has shape {tuple(embeddings.shape)} and dtype {embeddings.dtype}, it "
            "must have two axes, at least one row, and a floating-point dtype."
        )
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"`{labels_name}` has shape {tuple(labels.shape)}, it must have one axis with a label "
            f"for each row of `{emb_name}`: {tuple(embeddings.shape[:1])}."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"`{labels_name}` has dtype {labels.dtype}, it must hold integers.")


def _checked_references(
    ref_emb: Tensor | None, ref_labels: Tensor | None, dimensions: int
) -> tuple[Tensor, Tensor]:
    if ref_emb is None or ref_labels is None:
        missing = "ref_emb" if ref_emb is None else "ref_labels"
        given = "ref_labels" if ref_emb is None else "ref_emb"
        raise ValueError(f"`{missing}` is None, it must be given together with `{given}`.")
    _check_batch("ref_emb", ref_emb, "ref_labels", ref_labels)
    if ref_emb.shape[1] != dimensions:
        raise ValueError(
            f"`ref_emb` has {ref_emb.shape[1]} dimensions, it must have those of `embeddings`: "
            f"{dimensions}."
        )
    return ref_emb, ref_labels


def _unit_vectors(embeddings: Tensor) -> Tensor:
    """Rows divided by their lengths.

    First by their largest entries, as the squares of large ones overflow. A zero row stays zero.
    Divided by infinity, it also gets no gradient; divided by the usual small constant, it would
    get one of 1e12.
    """
    largest = embeddings.detach().abs().amax(dim=1, keepdim=True)
    embeddings = embeddings / largest.masked_fill(largest == 0, 1.0)
    length = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    unit: Tensor = embeddings / length.masked_fill(length == 0, math.inf)
    return unit


def _pairs_of_labels(
    labels: Tensor, ref_labels: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    positive = labels.to(device)[:, None] == ref_labels.to(device)
    negative = ~positive
    if ref_labels is labels:
        positive.fill_diagonal_(False)
    return positive, negative


def _pairs_of_indices(
    indices_tuple: Sequence[Tensor], similarity: Tensor
) -> tuple[Tensor, Tensor]:
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


def _positive_term(similarity: Tensor, positive: Tensor) -> Tensor:
    size = positive.sum(dim=1)
    total = torch.where(positive, similarity, 0.0).sum(dim=1)
    return -mean_where(total / size.clamp_min(1), size > 0)
