"""The scale on which values are modelled: far from the best, differences count less."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


Array = NDArray[np.float64]

_LARGEST = float(np.finfo(float).max)


class Scale:
    """``-log(1 + gap / unit)``, standardised: ``gap`` is what a value lacks to the best one,
    ``unit`` the median of the positive gaps.

    Close to the best value this is linear, and a cliff at the other end of the search space does
    not drown the differences between good settings.

    Args:
        values:
            At least one, all finite.
    """

    def __init__(self, values: Array) -> None:
        # Values near the largest float have differences beyond it. A power of two is divided by
        # without rounding.
        _, exponent = math.frexp(float(np.abs(values).max()))
        self._magnitude = math.ldexp(1.0, exponent - 1)
        self._best = float((values / self._magnitude).max())
        gaps = self._best - values / self._magnitude
        self._unit = float(np.median(gaps[gaps > 0.0])) if (gaps > 0.0).any() else 1.0
        logs = -np.log1p(gaps / self._unit)
        self._mean, sd = float(logs.mean()), float(logs.std())
        self._sd = sd if sd > 0.0 else 1.0

    @property
    def slope(self) -> np.float64:
        """Of the standardised logs, next to the best value."""
        return np.float64(1.0) / (self._unit * self._sd) / self._magnitude

    def flatness(self, values: Array) -> Array:
        """By how much the slope is less at other values."""
        return 1.0 + self._gaps(values)

    def transform(self, values: Array) -> Array:
        """Standardised logs of values that are not better than the best one known."""
        return (-np.log1p(self._gaps(values)) - self._mean) / self._sd

    def _gaps(self, values: Array) -> Array:
        """To the best value, in units."""
        return (self._best - values / self._magnitude) / self._unit

    def restore(self, transformed: Array) -> Array:
        """The values whose standardised logs these are."""
        logs = np.clip(transformed * self._sd + self._mean, -100.0, 100.0)
        with np.errstate(over="ignore"):
            values = (self._best - self._unit * np.expm1(-logs)) * self._magnitude
        return np.clip(values, -_LARGEST, _LARGEST)
