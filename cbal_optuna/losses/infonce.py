"""InfoNCE, split: the entropy term is a log-mean-exp of the similarities to other samples."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import threshold

from cbal_optuna.losses.arguments import number_where
from cbal_optuna.losses.arguments import one_of
from cbal_optuna.losses.layout import Block
from cbal_optuna.losses.layout import Layout
from cbal_optuna.losses.layout import SmallBatch
from cbal_optuna.losses.plain import mean_where
from cbal_optuna.losses.split import shown
from cbal_optuna.losses.tiled import TermSums
from cbal_optuna.losses.tiled import TiledLoss


# Rounding of float32 similarities, divided by the temperature, would show in the gradient.
_FLOAT64_BELOW = 0.01
# exp(1 / temperature), summed over any batch, is a float32, and so is exp(-1 / temperature).
_UNSHIFTED_FROM = 0.025
# Of a logit less the largest, and of its exponential: all of them sum up to 1 at least.
_NEGLIGIBLE = -60.0
_NEGLIGIBLE_SHARE = 2.0 * math.exp(_NEGLIGIBLE)


class SplitInfoNCELoss(TiledLoss):
    """InfoNCE as L = P + balance * E, with P as in `SplitLoss` and the entropy term::

        E = mean over anchors i with non-empty D(i) of
            tau * [ logsumexp_{k in D(i)} ( s_ik / tau ) - log |D(i)| ]

    tau is the temperature; D(i) is N(i) for `denominator="negatives"`, P(i) and N(i) together for
    `"all"`.

    The factor tau and `log |D(i)|` are ours. The factor leaves P free of the temperature, so that
    balance and temperature can be searched apart; `log |D(i)|` makes values comparable over batch
    sizes and has no gradient. E lies between the mean (large tau) and the largest (small tau) of
    the s_ik, so between -1 and 1.

    At balance 1, and where every anchor has a positive, with the mean over anchors:

    * `"all"`: L / tau = SupCon - mean `log |D(i)|`; for two views of b images that is
      NT-Xent - log(2b - 1).
    * `"negatives"`, two views of b images: L / tau = DCL - log(2b - 2). DCL (decoupled contrastive
      learning) is NT-Xent without the positives in the denominator, where they would cancel a part
      of the positive term which depends on the batch size.

    At another balance the weight is on the entropy term alone, and none of these losses has it.

    Args:
        balance: Weight of the entropy term, at least 0; a 0-d tensor has a gradient. The default
            belongs to `denominator="negatives"`: `benchmarks/defaults.py`.
        temperature: tau, above 0; a 0-d tensor has a gradient. Below 0.01 all is computed in
            float64, because the rounding of similarities is divided by tau; not with a tensor on
            a GPU, whose value would have to be waited for.
        denominator: `"negatives"` or `"all"`.
        gather: As in `TiledLoss`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

        >>> import torch
        >>> from cbal_optuna.losses import SplitInfoNCELoss
        >>> loss = SplitInfoNCELoss(balance=2.0, temperature=0.5)
        >>> embeddings = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> loss.terms(embeddings, labels)
        SplitTerms(positive=tensor(-1.), entropy=tensor(0.))
        >>> loss(embeddings, labels)
        tensor(-1.)
    """

    def __init__(
        self,
        balance: float | Tensor = 1.5,
        temperature: float | Tensor = 0.1,
        denominator: Literal["negatives", "all"] = "negatives",
        *,
        gather: bool = False,
    ) -> None:
        super().__init__(balance, gather=gather)
        self.temperature = number_where(lambda tau: tau > 0, "temperature", temperature, "above 0")
        self.denominator = one_of("denominator", denominator, ("negatives", "all"))

    @property
    def parameter(self) -> float | Tensor:
        return self.temperature

    def working_dtype(self, embeddings: Tensor, ref_emb: Tensor | None) -> torch.dtype:
        if self._known_temperature is not None and self._known_temperature < _FLOAT64_BELOW:
            return torch.float64
        return super().working_dtype(embeddings, ref_emb)

    def _entropy(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        denominator = negative if self.denominator == "negatives" else positive | negative
        size = denominator.sum(dim=1)
        # The gradient of logsumexp is NaN on a row of -inf. An anchor without a denominator
        # therefore keeps its whole row, and mean_where drops it.
        kept = denominator | (size == 0)[:, None]
        logits = torch.where(kept, similarity / self.temperature, -math.inf)
        log_mean = logits.logsumexp(dim=1) - size.clamp_min(1).to(logits.dtype).log()
        return mean_where(self.temperature * log_mean, size > 0)

    def entropy_sums(self, layout: Layout, with_references: bool) -> TermSums:
        temperature = self._known_temperature
        if layout.own_batch and temperature is not None and temperature >= _UNSHIFTED_FROM:
            return self._sums_of_symmetric(layout)
        return self._sums_of_rows(layout, with_references)

    def entropy_sums_of_small(self, batch: SmallBatch) -> TermSums:
        sizes, empty = self._sizes(batch)
        logits = batch.similarity / self.temperature
        if self.denominator == "negatives":
            logits.masked_fill_(batch.same_class, -math.inf)
        else:
            logits.fill_diagonal_(-math.inf)
        weights, sums, largest = _exponentials(logits, empty)
        log_means = largest + (sums / sizes).log_()
        shares = weights.div_(sums[:, None])
        by_anchors = (shares + shares.T) @ batch.anchors.directions
        return self._term(batch, log_means, empty, by_anchors, None)

    def _sums_of_rows(self, layout: Layout, with_references: bool) -> TermSums:
        anchors, references = layout.anchors.directions, layout.references.directions
        scaled = anchors / self.temperature
        by_anchors = torch.empty_like(anchors)
        with_references = with_references or layout.own_batch
        by_references = torch.zeros_like(references) if with_references else None
        sizes, empty = self._sizes(layout)
        log_means = anchors.new_empty(len(anchors))
        blocks = layout.blocks()
        buffer = layout.buffer(blocks)
        for block in blocks:
            logits = layout.products(block, scaled, buffer)
            self._leave_out(layout, block, logits, -math.inf)
            weights, sums, largest = _exponentials(logits, empty[block.rows])
            log_means[block.rows] = largest + (sums / sizes[block.rows]).log_()
            by_anchors[block.rows] = (weights @ references).div_(sums[:, None])
            if by_references is not None:
                by_references.addmm_(weights.T, anchors[block.rows] / sums[:, None])
        if layout.own_batch and by_references is not None:
            by_anchors, by_references = by_anchors.add_(by_references), None
        return self._term(layout, log_means, empty, by_anchors, by_references)

    def _sums_of_symmetric(self, layout: Layout) -> TermSums:
        """With each similarity computed once for both of its anchors, and again for the gradient
        unless all fit into a block. The logits are so small that none has to be subtracted."""
        anchors = layout.anchors.directions
        scaled = anchors / self.temperature
        sizes, empty = self._sizes(layout)
        blocks = layout.blocks(upper=True)
        buffer = layout.buffer(blocks)

        def weights_of(block: Block) -> Tensor:
            weights = layout.products(block, scaled, buffer).exp_()
            self._leave_out(layout, block, weights, 0.0)
            return weights

        if len(blocks) == 1:
            weights = weights_of(blocks[0])
            sums = weights.sum(dim=1).masked_fill_(empty, 1.0)
            shares = sums.reciprocal()
            by_anchors = weights.mul_(shares[:, None] + shares) @ anchors
        else:
            sums = anchors.new_zeros(len(anchors))
            by_anchors = torch.zeros_like(anchors)
            for block in blocks:
                weights = weights_of(block)
                sums[block.rows] += weights.sum(dim=1)
                sums[block.rows.stop :] += weights[:, block.n_rows :].sum(dim=0)
            shares = sums.masked_fill_(empty, 1.0).reciprocal()
            second_buffer = torch.empty_like(buffer)
            for block in blocks:
                weights = weights_of(block)
                both = second_buffer[: weights.numel()].view_as(weights)
                weights.mul_(torch.add(shares[block.rows, None], shares[block.column :], out=both))
                by_anchors[block.rows].addmm_(weights, anchors[block.column :])
                below = by_anchors[block.rows.stop :]
                below.addmm_(weights[:, block.n_rows :].T, anchors[block.rows])
        return self._term(layout, (sums / sizes).log_(), empty, by_anchors, None)

    def _term(
        self,
        layout: Layout | SmallBatch,
        log_means: Tensor,
        empty: Tensor,
        by_anchors: Tensor,
        by_references: Tensor | None,
    ) -> TermSums:
        """From each anchor's log-mean-exp, which has to be zero where the denominator is empty."""
        total, by_temperature = log_means.sum(), None
        if isinstance(self.temperature, Tensor):
            # All similarities by their weights in the softmax; in a batch of its own twice.
            weighted = torch.linalg.vecdot(by_anchors, layout.anchors.directions).sum()
            weighted = 0.5 * weighted if layout.own_batch else weighted
            by_temperature = total - weighted / self.temperature
        count = (~empty).sum()
        return TermSums(self.temperature * total, count, by_anchors, by_references, by_temperature)

    def _sizes(self, layout: Layout | SmallBatch) -> tuple[Tensor, Tensor]:
        """|D(i)|, or 1 where it is 0, and where that is; both (n,)."""
        sizes = layout.n_negatives
        if self.denominator == "all":
            sizes = sizes + layout.n_positives
        return sizes.clamp_min(1), sizes == 0

    def _leave_out(self, layout: Layout, block: Block, values: Tensor, value: float) -> None:
        """Overwrite, in a block, what is not in the denominators."""
        if self.denominator == "negatives":
            layout.fill_same_class(block, values, value)
        else:
            layout.fill_own(block, values, value)

    @property
    def _known_temperature(self) -> float | None:
        """None where a device would have to be waited for."""
        if not isinstance(self.temperature, Tensor):
            return self.temperature
        return float(self.temperature.detach()) if self.temperature.device.type == "cpu" else None

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, temperature={shown(self.temperature)}, "
            f"denominator={self.denominator!r}"
        )


def _exponentials(logits: Tensor, empty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits less the largest of their row, in place; their sums, and the largest, both (n,).
    Of an empty row, where all are -inf, the sum is given as 1 and the largest as 0."""
    largest = logits.amax(dim=1).masked_fill_(empty, 0.0)
    logits.sub_(largest[:, None])
    if logits.device.type == "cpu":
        # With numbers near the end of their type's range, a processor takes many times as long.
        weights = logits.clamp_min_(_NEGLIGIBLE).exp_()
        threshold(weights, _NEGLIGIBLE_SHARE, 0.0, inplace=True)
    else:
        weights = logits.exp_()
    return weights, weights.sum(dim=1).masked_fill_(empty, 1.0), largest
