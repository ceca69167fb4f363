"""Objectives to search, and the loop that searches them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from dataclasses import replace
import math
import random
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution

from cbal_optuna.search import DescentOptions
from cbal_optuna.search import History
from cbal_optuna.search import next_point
from cbal_optuna.search import Point
from cbal_optuna.search import Proposal
from cbal_optuna.search import Space


Trial = tuple[Point, float]

BALANCE_SPACE = Space.of(
    {
        "balance": FloatDistribution(0.1, 10.0, log=True),
        "temperature": FloatDistribution(0.01, 1.0, log=True),
        "batch_size": CategoricalDistribution([32, 64, 128, 256, 512]),
    }
)
UNIT_SQUARE = Space.of({"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})


def options_for(space: Space, start: Point | None = None, **changes: Any) -> DescentOptions:
    start = tuple(axis.snap(0.5) for axis in space.axes) if start is None else start
    return replace(DescentOptions(start=start, order=tuple(range(len(start)))), **changes)


def history_of(trials: Collection[Trial]) -> History:
    return History((number, *trial) for number, trial in enumerate(trials))


def proposals(
    space: Space,
    f: Callable[[Point], float],
    n: int,
    options: DescentOptions,
    before: Collection[Trial] = (),
) -> list[Proposal]:
    """What is asked for, one after the other, after the trials given."""
    trials, asked = list(before), []
    for _ in range(n):
        asked.append(next_point(history_of(trials), (), space, options))
        trials.append((asked[-1].point, f(asked[-1].point)))
    return asked


def search(
    space: Space,
    f: Callable[[Point], float],
    n: int,
    options: DescentOptions,
    before: Collection[Trial] = (),
) -> list[Trial]:
    """The points evaluated and their values, after those given."""
    return [(p.point, f(p.point)) for p in proposals(space, f, n, options, before)]


def points(trials: list[Trial]) -> list[Point]:
    return [point for point, _ in trials]


def best(trials: list[Trial]) -> Trial:
    return max(trials, key=lambda trial: trial[1])


def hill(optimum: Point, width: float = 0.4) -> Callable[[Point], float]:
    return lambda point: math.exp(
        -sum(((p - o) / width) ** 2 for p, o in zip(point, optimum, strict=True))
    )


def ridge(top: float) -> Callable[[Point], float]:
    """Over the balance space: narrow across the line of constant balance / temperature, wide
    along it."""

    def f(point: Point) -> float:
        x, y, batch_size = point
        across, along = (x - y - 0.1) / 0.2, (x + y - 2.0 * top) / 0.9
        return math.exp(-(across**2) - along**2 - (batch_size - 0.75) ** 2)

    return f


def hash_noise(seed: int) -> Callable[[Point], float]:
    """A value for each point, with walls and jackpots, that has nothing to do with its place."""

    def f(point: Point) -> float:
        rng = random.Random(f"{seed} {point}")
        return rng.choice([rng.gauss(0.0, 1.0)] * 8 + [-math.inf, math.inf])

    return f
