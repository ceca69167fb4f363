"""What has been evaluated so far."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
import math

import numpy as np
from numpy.typing import NDArray

from cbal_optuna.search.replicates import KnownNoise
from cbal_optuna.search.space import Point


Array = NDArray[np.float64]


class History:
    """The values of the points evaluated so far, higher being better.

    Repeated points are averaged. Infinite values are allowed, minus infinity standing for a
    setting that cannot be used: one such evaluation spoils a point.

    Args:
        evaluations:
            Trial number, point and value of each finished trial.

    Attributes:
        known_noise:
            How noisy an evaluation that counts once is, where its trainings tell.
    """

    def __init__(self, evaluations: Iterable[tuple[int, Point, float]] = ()) -> None:
        self.known_noise: KnownNoise | None = None
        self._means: dict[Point, float] = {}
        self._counts: dict[Point, float] = {}
        self._first_numbers: dict[Point, int] = {}
        self._given_up: set[Point] = set()
        self._last_number = -1
        self._is_sorted = True
        for evaluation in evaluations:
            self.add(*evaluation)

    def add(self, number: int, point: Point, value: float, count: float = 1.0) -> None:
        """Add the evaluation of trial ``number``. It counts as this many: the
        variance of its noise is inversely proportional to that."""
        if point in self._given_up:
            self._given_up.remove(point)
            self._counts[point] = 0.0
        total = self._counts.get(point, 0.0) + count
        mean = self._means[point] if total > count else value
        if math.isfinite(mean) and math.isfinite(value):
            share = count / total
            self._means[point] = mean + (share * value - share * mean)
        else:
            self._means[point] = -math.inf if -math.inf in (mean, value) else math.inf
        self._counts[point] = total
        self._first_numbers[point] = min(self._first_numbers.get(point, number), number)
        self._is_sorted &= number > self._last_number
        self._last_number = max(number, self._last_number)

    def give_up(self, number: int, point: Point) -> None:
        """Take a point for one that cannot be used, until it is evaluated after all."""
        if point not in self:
            self.add(number, point, -math.inf)
            self._given_up.add(point)

    def __contains__(self, point: object) -> bool:
        return point in self._means

    def __len__(self) -> int:
        return len(self._means)

    def value(self, point: Point) -> float:
        return self._means[point]

    def number(self, point: Point) -> int:
        """The first trial at a point."""
        return self._first_numbers[point]

    @property
    def points(self) -> list[Point]:
        """In the order of their first trials."""
        if not self._is_sorted:
            order = sorted(self._means, key=self._first_numbers.__getitem__)
            self._means = {point: self._means[point] for point in order}
            self._counts = {point: self._counts[point] for point in order}
            self._is_sorted = True
        return list(self._means)

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """Points of shape (n, number of axes), their values, and how many evaluations each value
        is the mean of, in the order of :attr:`points`."""
        ordered, n = self.points, len(self)
        points = np.fromiter(chain.from_iterable(ordered), float).reshape(n, -1)
        means = np.fromiter(self._means.values(), float, n)
        return points, means, np.fromiter(self._counts.values(), float, n)

    @property
    def any_finite(self) -> bool:
        return any(map(math.isfinite, self._means.values()))

    @property
    def lowest(self) -> float:
        """The lowest finite value, minus infinity without one."""
        return min(filter(math.isfinite, self._means.values()), default=-math.inf)

    @property
    def best(self) -> Point:
        """The point of the highest value, the earliest among equals."""
        return max(self.points, key=self._means.__getitem__)
