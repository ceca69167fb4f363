"""The two terms and their gradients without ever holding all similarities of a large batch.

The gradients are made with the values, so that the backward pass only scales and adds them. Memory
is linear in the number of samples.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple

import torch
from torch import distributed
from torch import Tensor

from cbal_optuna.losses.distributed import gathered
from cbal_optuna.losses.distributed import is_distributed
from cbal_optuna.losses.distributed import summed_over_ranks
from cbal_optuna.losses.layout import Layout
from cbal_optuna.losses.layout import SmallBatch
from cbal_optuna.losses.layout import UnitVectors
from cbal_optuna.losses.pairing import Pairing
from cbal_optuna.losses.split import SplitLoss
from cbal_optuna.losses.split import SplitTerms
from cbal_optuna.losses.split import term_dtype


# Second derivatives are made from all similarities, of which there are this many at most.
_MAX_PAIRS_TWICE = 2**24


@dataclass(frozen=True)
class TermSums:
    """A term before it is divided by what it is a mean over.

    Attributes:
        total, count: The term is their quotient; both 0-d.
        by_anchors: The gradient of `total` with respect to the anchors' directions, (n, d); where
            these are the references too, as both.
        by_references: With respect to the references', (m, d); None where it is not asked for.
        by_parameter: With respect to the temperature or margin, 0-d; None if independent of it.
    """

    total: Tensor
    count: Tensor
    by_anchors: Tensor
    by_references: Tensor | None
    by_parameter: Tensor | None = None


class TiledLoss(SplitLoss):
    """Base of the losses whose memory is linear in the batch: similarities are computed in blocks,
    and the gradients with the values.

    Chosen pairs (`indices_tuple`) need all similarities at once. So do second derivatives, which
    can be had of up to 2 ** 24 pairs of samples.

    Args:
        balance: As in `SplitLoss`.
        gather: Whether the batch is that of all ranks of `torch.distributed`, of which each rank
            has an equal share: values are those of the whole batch, gradients are right after
            DistributedDataParallel has averaged them. Either all ranks go backward, or none.
    """

    def __init__(self, balance: float | Tensor = 1.0, *, gather: bool = False) -> None:
        super().__init__(balance)
        self.gather = gather

    @property
    @abstractmethod
    def parameter(self) -> float | Tensor:
        """The temperature or margin."""

    @abstractmethod
    def entropy_sums(self, layout: Layout, with_references: bool) -> TermSums:
        """The entropy term and its gradients, from a block of similarities at a time."""

    @abstractmethod
    def entropy_sums_of_small(self, batch: SmallBatch) -> TermSums:
        """The same, from all similarities at once."""

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
        if self.gather and (indices_tuple is not None or ref_emb is not None):
            given = "ref_emb" if indices_tuple is None else "indices_tuple"
            raise ValueError(f"`{given}` is given, with `gather=True` it must be left out.")
        return super().terms(
            embeddings, labels, indices_tuple, ref_emb, ref_labels, self_start=self_start
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _terms_of_classes(
        self, embeddings: Tensor, ref_emb: Tensor | None, pairing: Pairing
    ) -> SplitTerms:
        if self.gather and is_distributed():
            # Gradients in half precision are then rounded once, when all ranks' are added.
            embeddings = embeddings.to(term_dtype(embeddings, None))
            ref_emb, pairing = gathered(embeddings, pairing.labels)
        parameter = self.parameter if isinstance(self.parameter, Tensor) else None
        return SplitTerms(*_TiledTerms.apply(self, pairing, embeddings, ref_emb, parameter))

    def extra_repr(self) -> str:
        return super().extra_repr() + (", gather=True" if self.gather else "")


class _TiledTerms(torch.autograd.Function):
    """Both terms, 0-d, of embeddings (n, d), references (m, d) or None, and the temperature or
    margin if that is a tensor."""

    @staticmethod
    def forward(
        ctx: Any,
        loss: TiledLoss,
        pairing: Pairing,
        embeddings: Tensor,
        ref_emb: Tensor | None,
        parameter: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        dtype = loss.working_dtype(embeddings, ref_emb)
        anchors = UnitVectors.of(embeddings.to(dtype))
        references = None if ref_emb is None else UnitVectors.of(ref_emb.to(dtype))
        layout = _arranged(anchors, references, pairing)
        with_references = ctx.needs_input_grad[3]
        terms = _term_sums(loss, layout, with_references)
        if pairing.over_ranks:
            terms = [_over_ranks(term) for term in terms]
        counts = [term.count.clamp_min(1) for term in terms]
        sides = [*_Side.of(layout.anchors, layout.order, [t.by_anchors for t in terms])]
        if with_references and isinstance(layout, Layout):
            by_references = [t.by_references for t in terms]
            sides += _Side.of(layout.references, layout.ref_order, by_references)
        ctx.loss, ctx.pairing = loss, pairing
        # Attributes of `ctx` would outlive the backward pass, and could be changed before it.
        inputs = embeddings, ref_emb, parameter, pairing.labels, pairing.ref_labels
        ctx.save_for_backward(*inputs, *counts, terms[1].by_parameter, *sides)
        positive, entropy = (term.total / count for term, count in zip(terms, counts))
        dtype = term_dtype(embeddings, ref_emb)
        return positive.to(dtype), entropy.to(dtype)

    @staticmethod
    def backward(ctx: Any, *by_terms: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(by_terms[0].device.type, enabled=False):
            if torch.is_grad_enabled():
                return None, None, *_twice_differentiable(ctx, by_terms)
            return None, None, *_once_differentiable(ctx, by_terms)


class _Side(NamedTuple):
    """What the gradient with respect to the anchors, or to the references, is made from.

    Attributes:
        directions, lengths: As in `UnitVectors`, in the order of their classes.
        order: That order; None in a small batch, which is in the embeddings'.
        by_positive, by_entropy: The gradients of the terms' totals with respect to the directions.
    """

    directions: Tensor
    lengths: Tensor
    order: Tensor | None
    by_positive: Tensor
    by_entropy: Tensor

    @classmethod
    def of(cls, vectors: UnitVectors, order: Tensor | None, by_terms: Sequence[Any]) -> _Side:
        return cls(vectors.directions, vectors.lengths, order, *by_terms)

    def gradient(self, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
        """That of a * the positive total + b * the entropy total, in the embeddings' order."""
        by_directions = (self.by_positive * a).addcmul_(self.by_entropy, b)
        gradient = UnitVectors(self.directions, self.lengths).gradient(by_directions).to(dtype)
        if self.order is None:
            return gradient
        return torch.empty_like(gradient).index_copy_(0, self.order, gradient)


def _arranged(
    anchors: UnitVectors, references: UnitVectors | None, pairing: Pairing
) -> Layout | SmallBatch:
    if references is None and SmallBatch.fits(len(pairing.labels)):
        return SmallBatch(anchors, pairing.labels)
    return Layout(anchors, pairing.labels, references, pairing.ref_labels, pairing.self_start)


def _term_sums(
    loss: TiledLoss, layout: Layout | SmallBatch, with_references: bool
) -> list[TermSums]:
    if isinstance(layout, SmallBatch):
        return [_positive_sums_of_small(layout), loss.entropy_sums_of_small(layout)]
    return [_positive_sums(layout, with_references), loss.entropy_sums(layout, with_references)]


def _positive_sums(layout: Layout, with_references: bool) -> TermSums:
    """The positive term by sums over classes, in O(n d)."""
    anchors, sizes = layout.anchors.directions, layout.n_positives
    weights = (-1.0 / sizes.to(anchors.dtype)).masked_fill_(sizes == 0, 0.0)[:, None]
    by_anchors = layout.sums_of_positives().mul_(weights)
    total = torch.linalg.vecdot(by_anchors, anchors).sum()
    by_references = None
    if layout.own_batch:
        by_anchors.mul_(2.0)
    elif with_references:
        by_references = layout.sums_over_anchors(anchors * weights)
    return TermSums(total, sizes.count_nonzero(), by_anchors, by_references)


def _positive_sums_of_small(batch: SmallBatch) -> TermSums:
    """The positive term from all similarities at once."""
    anchors, sizes = batch.anchors.directions, batch.n_positives
    by_anchors = (batch.positive @ anchors).div_(-sizes.clamp_min(1.0)[:, None])
    total = torch.linalg.vecdot(by_anchors, anchors).sum()
    return TermSums(total, sizes.count_nonzero(), by_anchors.mul_(2.0), None)


def _over_ranks(term: TermSums) -> TermSums:
    """With what is summed over anchors summed over those of all ranks."""
    by_parameter = torch.zeros_like(term.total) if term.by_parameter is None else term.by_parameter
    sums = summed_over_ranks([term.total, term.count, by_parameter])
    n_ranks = distributed.get_world_size()
    by_references = None if term.by_references is None else term.by_references * n_ranks
    total, count, by_parameter = sums
    return TermSums(total, count, term.by_anchors * n_ranks, by_references, by_parameter)


def _once_differentiable(ctx: Any, by_terms: tuple[Tensor, ...]) -> list[Tensor | None]:
    """The gradients, from those that were made with the values."""
    # Once, because checkpointing computes them anew each time.
    saved = ctx.saved_tensors
    embeddings, ref_emb, parameter, _, _, *counts, by_parameter = saved[:8]
    of_anchors, of_references = saved[8:13], saved[13:]
    a, b = (by / count for by, count in zip(by_terms, counts))
    needed = ctx.needs_input_grad[2:]
    return [
        _Side(*of_anchors).gradient(a, b, embeddings.dtype) if needed[0] else None,
        _Side(*of_references).gradient(a, b, ref_emb.dtype) if needed[1] else None,
        (by_parameter * b).to(parameter.dtype) if needed[2] else None,
    ]


def _twice_differentiable(ctx: Any, by_terms: tuple[Tensor, ...]) -> list[Tensor | None]:
    """The gradients as functions that can be differentiated again, from all similarities."""
    if ctx.pairing.over_ranks:
        raise RuntimeError("Second derivatives cannot be had with `gather=True`.")
    embeddings, ref_emb, parameter = ctx.saved_tensors[:3]
    n_pairs = len(embeddings) * len(embeddings if ref_emb is None else ref_emb)
    if n_pairs > _MAX_PAIRS_TWICE:
        raise RuntimeError(
            f"Second derivatives of a loss of {n_pairs} pairs of samples have been asked for, "
            f"they can be had of {_MAX_PAIRS_TWICE} at most."
        )
    # Views, because references that are made from the embeddings would pass their gradient on.
    embeddings = embeddings.view_as(embeddings)
    ref_emb = None if ref_emb is None else ref_emb.view_as(ref_emb)
    terms = ctx.loss.plain_terms(embeddings, ref_emb, ctx.pairing)
    inputs = embeddings, ref_emb, parameter
    asked = [x for x, needed in zip(inputs, ctx.needs_input_grad[2:]) if needed and x is not None]
    found = iter(torch.autograd.grad(terms, asked, by_terms, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[2:]]
