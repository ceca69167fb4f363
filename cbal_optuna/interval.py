"""Means with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from scipy.stats import t as student_t


_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval by Student's t distribution."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: np.ndarray) -> Interval:
        if len(values) < 2:
            return cls(float(values.mean()), math.inf)
        error = values.std(ddof=1) / math.sqrt(len(values))
        quantile = student_t.ppf(0.5 + _CONFIDENCE / 2, len(values) - 1)
        return cls(float(values.mean()), float(quantile * error))

    def __str__(self) -> str:
        if math.isinf(self.half_width):
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ± {self.half_width:.4f}"

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half_width
