"""What all losses share: their two terms, and the balance.

Symbols, here and in the other modules of this package: z_i is embedding i divided by its length,
s_ij = z_i . z_j, P(i) are the references of anchor i's class, N(i) those of other classes. The
references are the batch itself without anchor i, or `ref_emb`. n anchors, m references.
"""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cbal_optuna.losses.arguments import checked_pairing
from cbal_optuna.losses.arguments import number_where
from cbal_optuna.losses.pairing import Pairing
from cbal_optuna.losses.plain import pairs_of_indices
from cbal_optuna.losses.plain import pairs_of_labels
from cbal_optuna.losses.plain import positive_term
from cbal_optuna.losses.plain import unit_vectors


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
        balance: Weight of the entropy term, at least 0; a 0-d tensor has a gradient.

    Raises:
        ValueError: If `balance` is not a finite number, at least 0.
    """

    def __init__(self, balance: float | Tensor = 1.0) -> None:
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
        *,
        self_start: int | None = None,
    ) -> Tensor:
        """The loss, a 0-d tensor; arguments as in `terms`."""
        terms = self.terms(
            embeddings, labels, indices_tuple, ref_emb, ref_labels, self_start=self_start
        )
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
        *,
        self_start: int | None = None,
    ) -> SplitTerms:
        """The two terms, neither of them weighted.

        Args:
            embeddings: The anchors, (n, d) with n >= 1, of any length: they are normalised here.
            labels: Their classes, (n,) integers.
            indices_tuple: The pairs that count, instead of all those which the labels give: pairs
                (anchors, positives, anchors, negatives) or triplets (anchors, positives,
                negatives), as miners return them. A pair counts once, however often it is listed.
            ref_emb: The references, (m, d) with m >= 1; the batch itself by default.
            ref_labels: Their classes, (m,) integers.
            self_start: Anchor i is reference `self_start + i`, of the same class, and neither its
                own positive nor negative. By default no anchor is, or, if `ref_labels` is the very
                tensor `labels`, anchor i is reference i.

        Raises:
            ValueError: If a shape or dtype is not as said, `ref_emb` and `ref_labels` do not come
                together, `self_start` leaves anchors without their references, `indices_tuple`
                has neither 3 nor 4 parts, or it names a pair as both positive and negative.
        """
        pairing = checked_pairing(embeddings, labels, ref_emb, ref_labels, self_start)
        with torch.autocast(embeddings.device.type, enabled=False):
            if indices_tuple is None:
                return self._terms_of_classes(embeddings, ref_emb, pairing)
            return self.plain_terms(embeddings, ref_emb, pairing, indices_tuple)

    def _terms_of_classes(
        self, embeddings: Tensor, ref_emb: Tensor | None, pairing: Pairing
    ) -> SplitTerms:
        return self.plain_terms(embeddings, ref_emb, pairing)

    def plain_terms(
        self,
        embeddings: Tensor,
        ref_emb: Tensor | None,
        pairing: Pairing,
        indices_tuple: Sequence[Tensor] | None = None,
    ) -> SplitTerms:
        """The two terms, with all similarities held at once."""
        dtype = self.working_dtype(embeddings, ref_emb)
        anchors = unit_vectors(embeddings.to(dtype))
        references = anchors if ref_emb is None else unit_vectors(ref_emb.to(dtype))
        similarity = anchors @ references.T
        if indices_tuple is None:
            positive, negative = pairs_of_labels(pairing, similarity.device)
        else:
            positive, negative = pairs_of_indices(indices_tuple, similarity)
        entropy = self._entropy(similarity, positive, negative)
        dtype = term_dtype(embeddings, ref_emb)
        return SplitTerms(positive_term(similarity, positive).to(dtype), entropy.to(dtype))

    def working_dtype(self, embeddings: Tensor, ref_emb: Tensor | None) -> torch.dtype:
        """What similarities are computed in."""
        return term_dtype(embeddings, ref_emb)

    @abstractmethod
    def _entropy(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The entropy term, 0-d, from s_ij and the masks of P(i) and N(i), all (n, m)."""

    def extra_repr(self) -> str:
        return f"balance={shown(self.balance)}"


def shown(number: float | Tensor) -> str:
    """Of a tensor, its value."""
    return f"{number.item():g}" if isinstance(number, Tensor) else f"{number}"


def term_dtype(embeddings: Tensor, ref_emb: Tensor | None) -> torch.dtype:
    """That of the wider ones, float32 at least."""
    others = torch.float32 if ref_emb is None else ref_emb.dtype
    return torch.promote_types(torch.promote_types(embeddings.dtype, others), torch.float32)
