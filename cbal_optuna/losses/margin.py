"""The contrastive margin loss, split: the entropy term is what negatives exceed a margin by."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cbal_optuna.losses.arguments import number_where
from cbal_optuna.losses.arguments import one_of
from cbal_optuna.losses.layout import Layout
from cbal_optuna.losses.layout import SmallBatch
from cbal_optuna.losses.split import shown
from cbal_optuna.losses.tiled import TermSums
from cbal_optuna.losses.tiled import TiledLoss


class SplitMarginLoss(TiledLoss):
    """Margin loss as L = P + balance * E, with P as in `SplitLoss` and the entropy term::

        E = sum over anchors i and k in N(i) of  relu( s_ik - margin )  /  C

    where `aggregation` says what C counts:

    * `"all"`: the negative pairs. The expectation of E over random batches then does not depend on
      the batch size. The higher the margin, the fewer pairs are active and the smaller is E: on
      CUB-200 the best balance is near 20 with a margin of 0, near 500 with one of 0.5.
    * `"nonzero"`: the active pairs, those above the margin.
    * `"anchor_sum"`: the n anchors, so that E is the mean of a sum per anchor and grows with n.

    At balance 1, and where every anchor has equally many positives, 1 + L is the ContrastiveLoss
    of pytorch-metric-learning with cosine similarities, `pos_margin=1` and `neg_margin=margin`:
    `"nonzero"` with its default AvgNonZeroReducer, `"all"` with its MeanReducer. That loss has no
    balance, and its positive term is a mean over pairs where ours is one over anchors.

    Args:
        balance: Weight of the entropy term, at least 0; a 0-d tensor has a gradient.
        margin: The similarity that negatives may have at no cost, between -1 and 1; a 0-d tensor
            has a gradient.
        aggregation: `"all"`, `"nonzero"` or `"anchor_sum"`. Tuned, `"all"` depends least on the
            batch size; untuned, `"nonzero"` is good on more data (`benchmarks/defaults.py`).
        gather: As in `TiledLoss`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

        >>> import torch
        >>> from cbal_optuna.losses import SplitMarginLoss
        >>> loss = SplitMarginLoss(balance=2.0, margin=0.5)
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> loss.terms(embeddings, labels)
        SplitTerms(positive=tensor(-0.5000), entropy=tensor(0.5000))
        >>> loss(embeddings, labels)
        tensor(0.5000)
    """

    def __init__(
        self,
        balance: float | Tensor = 1.0,
        margin: float | Tensor = 0.5,
        aggregation: Literal["all", "nonzero", "anchor_sum"] = "nonzero",
        *,
        gather: bool = False,
    ) -> None:
        super().__init__(balance, gather=gather)
        self.margin = number_where(lambda s: -1 <= s <= 1, "margin", margin, "between -1 and 1")
        self.aggregation = one_of("aggregation", aggregation, ("all", "nonzero", "anchor_sum"))

    @property
    def parameter(self) -> float | Tensor:
        return self.margin

    def _entropy(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        excess = torch.where(negative, similarity - self.margin, 0.0).relu()
        if self.aggregation == "anchor_sum":
            return excess.sum() / len(excess)
        counted = negative if self.aggregation == "all" else excess
        return excess.sum() / counted.count_nonzero().clamp_min(1)

    def entropy_sums(self, layout: Layout, with_references: bool) -> TermSums:
        # In a batch of its own, what is right of the blocks on the diagonal is there once more.
        mirrored = layout.own_batch
        anchors, references = layout.anchors.directions, layout.references.directions
        by_anchors = torch.zeros_like(anchors)
        by_references = torch.zeros_like(references) if with_references else None
        total, n_active = anchors.new_zeros(2, dtype=torch.float64)
        blocks = layout.blocks(upper=mirrored)
        buffer = layout.buffer(blocks)
        for block in blocks:
            excess = layout.products(block, anchors, buffer).sub_(self.margin)
            layout.fill_same_class(block, excess, 0.0)
            total += excess.relu_().sum()
            if mirrored and block is not blocks[-1]:
                total += excess[:, block.n_rows :].sum()
            active = excess.sign_()
            n_active += active.sum()
            by_anchors[block.rows].addmm_(active, references[block.column :])
            if mirrored and block is not blocks[-1]:
                right = active[:, block.n_rows :]
                n_active += right.sum()
                by_anchors[block.rows.stop :].addmm_(right.T, anchors[block.rows])
            elif by_references is not None:
                by_references.addmm_(active.T, anchors[block.rows])
        if mirrored:
            by_anchors.mul_(2.0)
        count = self._count(layout, n_active)
        return TermSums(total.to(anchors.dtype), count, by_anchors, by_references, -n_active)

    def entropy_sums_of_small(self, batch: SmallBatch) -> TermSums:
        excess = (batch.similarity - self.margin).masked_fill_(batch.same_class, 0.0).relu_()
        total = excess.sum()
        active = excess.sign_()
        n_active = active.sum()
        by_anchors = (active @ batch.anchors.directions).mul_(2.0)
        return TermSums(total, self._count(batch, n_active), by_anchors, None, -n_active)

    def _count(self, layout: Layout | SmallBatch, n_active: Tensor) -> Tensor:
        """C."""
        if self.aggregation == "all":
            return layout.n_negatives.sum()
        if self.aggregation == "nonzero":
            return n_active
        return torch.full_like(n_active, len(layout.n_negatives))

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, margin={shown(self.margin)}, "
            f"aggregation={self.aggregation!r}"
        )
