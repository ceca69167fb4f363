"""A setting that was tuned at one batch size, for another."""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any

from cbal_optuna.objectives.search_space import Setting


def carry_over(params: Mapping[str, Any], from_batch: int, to_batch: int) -> Setting:
    """Where to set balance and temperature or margin at another batch size.

    InfoNCE, to a smaller batch: balance and temperature are multiplied by the square root of the
    ratio of the batch sizes. Their ratio stays what it was because it is what the loss depends on
    most: by tau * log-mean-exp(s / tau) = mean(s) + var(s) / (2 tau) + ..., it weighs the spread
    of the similarities against the positive term. The rest of the balance, on their mean, has to
    be the smaller the more the mean differs from batch to batch, by 1 / sqrt(batch size). To a
    larger batch: as it is, where it is no longer the best one, but as good within a few per cent.

    Margin loss: as it is, since its terms do not depend on the batch size in expectation; with the
    aggregation ``"anchor_sum"``, a sum over the batch, the balance is divided by the ratio.

    The rule is ours, and an empirical one: ``benchmarks/batch_size.py`` compares it with settings
    tuned at each batch size.

    Args:
        params:
            A setting, or the parameters of a trial.
        from_batch:
            The batch size it was tuned at.
        to_batch:
            The batch size it is wanted for.

    Returns:
        The setting, its batch size, if it has one, being the new one.

    Raises:
        ValueError: A batch size is below 1.
    """
    for name, batch_size in (("from_batch", from_batch), ("to_batch", to_batch)):
        if batch_size < 1:
            raise ValueError(f"`{name}` is {batch_size}; it should be at least 1.")
    ratio = to_batch / from_batch
    result = dict(params)
    if "temperature" in params:
        for name in ("balance", "temperature"):
            result[name] *= math.sqrt(min(1.0, ratio))
    elif params.get("aggregation") == "anchor_sum":
        result["balance"] /= ratio
    if "batch_size" in params:
        result["batch_size"] = to_batch
    return result
