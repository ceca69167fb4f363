"""The contrastive margin loss, split: the entropy term is what negatives exceed a margin by."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from cbal_optuna.losses.split import number_where
from cbal_optuna.losses.split import one_of
from cbal_optuna.losses.split import SplitLoss


class SplitMarginLoss(SplitLoss):
    """Margin loss as L = P + balance * E, with P as in `SplitLoss` and the entropy term::

        E = sum over anchors i and k in N(i) of  relu( s_ik - margin )  /  C

    where `aggregation` says what C counts:

    * `"all"`: the negative pairs. The expectation of E over random batches then does not depend on
      the batch size, but few pairs are active and E is small: look for the balance between 1 and
      10,000.
    * `"nonzero"`: the active pairs, those above the margin.
    * `"anchor_sum"`: the n anchors, so that E is the mean of a sum per anchor and grows with n.

    At balance 1, and where every anchor has equally many positives, 1 + L is the ContrastiveLoss
    of pytorch-metric-learning with cosine similarities, `pos_margin=1` and `neg_margin=margin`:
    `"nonzero"` with its default AvgNonZeroReducer, `"all"` with its MeanReducer. That loss has no
    balance, and its positive term is a mean over pairs where ours is one over anchors.

    Args:
        balance: Weight of the entropy term, at least 0.
        margin: The similarity that negatives may have at no cost, between -1 and 1.
        aggregation: `"all"`, `"nonzero"` or `"anchor_sum"`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

        >>> import torch
        >>> from cbal_optuna.losses import SplitMarginLoss
        >>> loss = SplitMarginLoss(balance=2.0, margin=0.5)
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> loss.terms(embeddings, labels)
        SplitTerms(positive=tensor(-0.5000), entropy=tensor(0.2500))
        >>> loss(embeddings, labels)
        tensor(0.)
    """

    def __init__(
        self,
        balance: float = 1.0,
        margin: float = 0.5,
        aggregation: Literal["all", "nonzero", "anchor_sum"] = "all",
    ) -> None:
        super().__init__(balance)
        self.margin = number_where(lambda s: -1 <= s <= 1, "margin", margin, "between -1 and 1")
        self.aggregation = one_of("aggregation", aggregation, ("all", "nonzero", "anchor_sum"))

    def _entropy(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        excess = (similarity - self.margin).masked_fill_(~negative, 0.0).relu_()
        if self.aggregation == "anchor_sum":
            return excess.sum() / len(excess)
        counted = negative if self.aggregation == "all" else excess
        return excess.sum() / counted.count_nonzero().clamp_min(1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margin={self.margin}, aggregation={self.aggregation!r}"
