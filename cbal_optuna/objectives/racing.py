"""Ending a trial of several trainings early: once it is clearly worse than the best trial so far.

The trainings of a trial are for other folds or with other seeds, the same for all trials: one fold
is easier than another for every setting. So what a setting lacks to the best is compared training
by training, and an ended trial is given the value that it would have come to, as far as those done
and the differences between trainings tell. A search loses nothing by this, unlike by a trial that
is said to be pruned, of which it knows no more than that it was bad. After Maron and Moore,
"Hoeffding Races" (1993), and F-Race of Birattari et al. (2002).
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from cbal_optuna.search import Replicates


Array = NDArray[np.float64]

_CONFIDENCE = 0.99


def is_lost(values: Sequence[float], others: Array) -> bool:
    """Whether a trial is clearly worse than the best of others, whatever its other trainings give.

    Args:
        values:
            Of its trainings so far, higher being better.
        others:
            The values of trials that have been completed, of shape (trials, trainings).
    """
    n_done, n_trainings = len(values), others.shape[1]
    replicates = Replicates()
    for other in others:
        replicates.add(other)
    noise = replicates.of_one_training
    if noise is None or n_done >= n_trainings:
        return False
    best = others[others.mean(axis=1).argmax()]
    lack = float((best[:n_done] - values).mean())
    # Of the difference of two means over all trainings, given those over the first.
    error = math.sqrt(2.0 * noise.variance * (n_trainings - n_done) / (n_trainings * n_done))
    return lack > float(student_t.ppf(_CONFIDENCE, noise.degrees)) * error


def expected_mean(values: Sequence[float], others: Array) -> float:
    """The mean that a trial would have come to with all trainings; arguments as in
    :func:`is_lost`."""
    typical = others.mean(axis=0)
    return float(np.mean(values) + typical.mean() - typical[: len(values)].mean())
