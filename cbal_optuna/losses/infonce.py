"""InfoNCE, split: the entropy term is a log-mean-exp of the similarities to other samples."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from cbal_optuna.losses.split import mean_where
from cbal_optuna.losses.split import number_where
from cbal_optuna.losses.split import one_of
from cbal_optuna.losses.split import SplitLoss


class SplitInfoNCELoss(SplitLoss):
    """InfoNCE as L = P + balance * E, with P as in `SplitLoss` and the entropy term::

        E = mean over anchors i with non-empty D(i) of
            tau * [ logsumexp_{k in D(i)} ( s_ik / tau ) - log |D(i)| ]

    tau is the temperature; D(i) is N(i) for `denominator="negatives"`, P(i) and N(i) together for
    `"all"`.

    The factor tau and log |D(i)| are ours. The factor leaves P free of the temperature, so that
    balance and temperature can be searched apart; log |D(i)| makes values comparable over batch
    sizes and has no gradient. E lies between the mean (large tau) and the largest (small tau) of
    the s_ik, so between -1 and 1.

    At balance 1, and where every anchor has a positive, with the mean over anchors:

    * `"all"`: L / tau = SupCon - mean log |D(i)|; for two views of b images that is
      NT-Xent - log(2b - 1).
    * `"negatives"`, two views of b images: L / tau = DCL - log(2b - 2). DCL (decoupled contrastive
      learning) is NT-Xent without the positives in the denominator, where they would cancel a part
      of the positive term which depends on the batch size.

    At another balance the weight is on the entropy term alone, and none of these losses has it.

    Args:
        balance: Weight of the entropy term, at least 0.
        temperature: tau, above 0. From the rounding of the similarities, float32 gradients have a
            relative error of up to about 1e-6 + 4e-8 / tau.
        denominator: `"negatives"` or `"all"`.

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
        balance: float = 1.0,
        temperature: float = 0.1,
        denominator: Literal["negatives", "all"] = "negatives",
    ) -> None:
        super().__init__(balance)
        self.temperature = number_where(lambda tau: tau > 0, "temperature", temperature, "above 0")
        self.denominator = one_of("denominator", denominator, ("negatives", "all"))

    def _entropy(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        denominator = negative if self.denominator == "negatives" else positive | negative
        size = denominator.sum(dim=1)
        # The gradient of logsumexp is NaN on a row of -inf. An anchor without a denominator
        # therefore keeps its whole row, and mean_where drops it.
        kept = denominator | (size == 0)[:, None]
        logits = torch.where(kept, similarity, -math.inf).div_(self.temperature)
        log_mean = logits.logsumexp(dim=1) - size.clamp_min(1).to(logits.dtype).log()
        return mean_where(self.temperature * log_mean, size > 0)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, temperature={self.temperature}, "
            f"denominator={self.denominator!r}"
        )
