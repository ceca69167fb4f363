"""What has been evaluated so far."""

from __future__ import annotations

from collections.abc import Iterable
import math

import numpy as np
from numpy.typing import NDArray

from cbal_optuna.search.space import Point


Array = NDArray[np.float64]


class History:
    """The values of the points evaluated so far, higher being better.

    Repeated points are averaged. Infinite values are allowed, minus infinity standing for a
    setting that cannot be used: one such evaluation spoils a point.

    Args:
        evaluations:
            Trial number, point and value of each finished trial.
    """

    def __init__(self, evaluations: Iterable[tuple[int, Point, float]] = ()) -> None:
        self._values: dict[Point, list[float]] = {}
        self._first_numbers: dict[Point, int] = {}
        self._in_order: list[Point] | None = None
        for evaluation in evaluations:
            self.add(*evaluation)

    def add(self, number: int, point: Point, value: float) -> None:
        """Add the evaluation of trial ``number``."""
        self._values.setdefault(point, []).append(value)
        self._first_numbers[point] = min(self._first_numbers.get(point, number), number)
        self._in_order = None

    def __contains__(self, point: object) -> bool:
        return point in self._values

    def __len__(self) -> int:
        return len(self._values)

    def value(self, point: Point) -> float:
        values = self._values[point]
        return -math.inf if -math.inf in values else sum(values) / len(values)

    def number(self, point: Point) -> int:
        """The first trial at a point."""
        return self._first_numbers[point]

    @property
    def points(self) -> list[Point]:
        """In the order of their first trials."""
        if self._in_order is None:
            self._in_order = sorted(self._values, key=self._first_numbers.__getitem__)
        return self._in_order

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """Points of shape (n, number of axes), their values, and how many evaluations each value
        is the mean of, in the order of :attr:`points`."""
        points = self.points
        values = np.array([self.value(p) for p in points])
        counts = np.array([float(len(self._values[p])) for p in points])
        return np.array(points), values, counts

    @property
    def any_finite(self) -> bool:
        return math.isfinite(self.lowest)

    @property
    def lowest(self) -> float:
        """The lowest finite value, minus infinity without one."""
        values = map(self.value, self._values)
        return min(filter(math.isfinite, values), default=-math.inf)

    @property
    def best(self) -> Point:
        """The point of the highest value, the earliest among equals."""
        return max(self.points, key=self.value)
