"""How noisy values are that are means of several trainings, by what these differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray


Array = NDArray[np.float64]


@dataclass(frozen=True)
class KnownNoise:
    """An estimate of how noisy values are.

    Args:
        variance:
            Of a value around what it would be on average.
        degrees:
            How many degrees of freedom the estimate has, at least 1.
    """

    variance: float
    degrees: int


class Replicates:
    """The trainings of several trials: for other folds or with other seeds, the same for all
    trials.

    One fold is easier than another for every setting. So what is noise is what is left of the
    values when the means of their trials and of their trainings are taken off: the interaction
    term of a two-way analysis of variance.
    """

    def __init__(self) -> None:
        # By number of trainings: trials, and sums of deviations from the means of the trials.
        self._n: dict[int, int] = {}
        self._sums: dict[int, Array] = {}
        self._squares: dict[int, float] = {}

    def add(self, values: Sequence[float]) -> None:
        """The values of one trial, at least one of them, finite, in the order of the trainings.
        Trials may have different numbers of trainings."""
        k = len(values)
        self._n[k] = self._n.get(k, 0) + 1
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = np.array(values) - np.mean(values)
            self._sums[k] = self._sums.get(k, np.zeros(k)) + deviations
            self._squares[k] = self._squares.get(k, 0.0) + float(deviations @ deviations)

    @property
    def most_trainings(self) -> int:
        """Of one trial."""
        return max(self._n, default=1)

    @property
    def of_one_training(self) -> KnownNoise | None:
        """How noisy the value of one training is; :obj:`None` as long as nothing is known, and if
        values are so large that their squares are not finite."""
        degrees = sum((n - 1) * (k - 1) for k, n in self._n.items())
        if not degrees:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            left = sum(
                self._squares[k] - float(self._sums[k] @ self._sums[k]) / n
                for k, n in self._n.items()
            )
        return KnownNoise(max(0.0, left) / degrees, degrees) if math.isfinite(left) else None
