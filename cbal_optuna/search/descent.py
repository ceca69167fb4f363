"""Coordinate descent as a pure function: the trials so far in, the next point out.

The descent is written once, as a generator that asks for the value at a point and goes on with the
answer. To find the next point it is *replayed* from its start over the recorded values, and the
first point it asks for that nobody has evaluated is the answer. So nothing has to be remembered
between calls: a resumed search, a second worker and an undisturbed search all do the same.

A point that another worker is evaluating is answered, for the time being, with the lowest value
known: the replay then goes on to what would be asked next if that point is no improvement, which
gives every worker another useful point.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Iterable
from dataclasses import dataclass
import itertools
import math

import numpy as np

from cbal_optuna.search.line_search import LineSearch
from cbal_optuna.search.line_search import parabolic
from cbal_optuna.search.space import Axis
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space


LINE_SEARCHES: dict[str, Callable[..., LineSearch]] = {"parabolic": parabolic}

RESOLUTION = 0.01
_SHRINK_MOVED = 0.5
_SHRINK_STUCK = 0.4
_MAX_NOMINAL_LEVELS = 6
# Below this share of the gap between two levels, a step can no longer tell them apart.
_LEVEL_SHARE = 0.3
# A replay that has asked for known points again this often is taken to go round in circles.
_MAX_REPEATS = 2_000
# It is then left for random points: so many are tried before all points are gone through.
_MAX_DRAWS = 100

Descent = Generator[Point, float, None]


@dataclass(frozen=True)
class DescentOptions:
    """How the descent moves.

    Args:
        start:
            The first point.
        order:
            The axes, by index, in the order in which they are searched.
        line_search:
            A key of :data:`LINE_SEARCHES`.
        initial_step:
            The first step on every axis, as a share of its range.
        tolerance:
            The step below which the search has converged; it then starts again elsewhere.
        seed:
            Decides the starts after the first, and which levels of a long nominal axis are tried.
    """

    start: Point
    order: tuple[int, ...]
    line_search: str = "parabolic"
    initial_step: float = 0.25
    tolerance: float = 0.015
    seed: int = 0


class History:
    """The values of the points evaluated so far, higher being better.

    Args:
        evaluations:
            Trial number, point and value of each finished trial, by number. Repeated points are
            averaged; infinite values are allowed, minus infinity standing for a setting that
            cannot be used.
    """

    def __init__(self, evaluations: Iterable[tuple[int, Point, float]]) -> None:
        values: dict[Point, list[float]] = {}
        self._first_numbers: dict[Point, int] = {}
        for number, point, value in evaluations:
            values.setdefault(point, []).append(value)
            self._first_numbers.setdefault(point, number)
        self._values = {p: _mean(v) for p, v in values.items()}

    def __contains__(self, point: object) -> bool:
        return point in self._values

    def __len__(self) -> int:
        return len(self._values)

    def value(self, point: Point) -> float:
        return self._values[point]

    def number(self, point: Point) -> int:
        """The first trial at a point."""
        return self._first_numbers[point]

    @property
    def points(self) -> list[Point]:
        """In the order of their first trials."""
        return list(self._values)

    @property
    def lowest(self) -> float:
        """The lowest finite value, minus infinity without one."""
        return min((v for v in self._values.values() if math.isfinite(v)), default=-math.inf)

    @property
    def best(self) -> Point:
        """The point of the highest value, the earliest among equals."""
        return max(self._values, key=self._values.__getitem__)


class _Incumbent:
    """The best point among the trials up to the one last replayed.

    It is how the descent takes up points it did not ask for itself: enqueued ones, and those of
    other workers.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._coming = iter(history.points)
        self._next = next(self._coming, None)
        self._last_replayed = -1
        self._best: tuple[Point, float] = ((), -math.inf)

    def replayed(self, point: Point) -> None:
        self._last_replayed = max(self._last_replayed, self._history.number(point))

    def best(self) -> tuple[Point, float]:
        while self._next is not None and self._history.number(self._next) <= self._last_replayed:
            known = self._history.value(self._next)
            if known > self._best[1]:
                self._best = (self._next, known)
            self._next = next(self._coming, None)
        return self._best


def next_point(
    history: History, pending: Collection[Point], space: Space, options: DescentOptions
) -> Point:
    """The point to evaluate next.

    Args:
        history:
            The finished trials.
        pending:
            The points that other workers are evaluating.
        space:
            The search space.
        options:
            How the descent moves.

    Returns:
        A point that is neither in the history nor pending, while there is one; the best point of
        the history, to be evaluated again, when the whole space has been.
    """
    taken = set(history.points).union(pending)
    incumbent = _Incumbent(history)
    descent = _descents(space, options, incumbent)
    guess = history.lowest
    request = next(descent)
    n_answers = len(taken) + _MAX_REPEATS if len(taken) < space.size else 0
    for _ in range(n_answers):
        if request in history:
            incumbent.replayed(request)
            request = descent.send(history.value(request))
        elif request in pending:
            request = descent.send(guess)
        else:
            return request
    rng = np.random.default_rng([options.seed, len(history), len(taken)])
    draws = (_random_point(space, rng) for _ in range(_MAX_DRAWS))
    free = (p for p in itertools.chain(draws, space.points()) if p not in taken)
    return next(free, history.best if len(history) else options.start)


def _descents(space: Space, options: DescentOptions, incumbent: _Incumbent) -> Descent:
    """One descent after the other: from the start, then from random points."""
    start, n = options.start, 0
    while True:
        yield from _descent(space, options, incumbent, start, n)
        n += 1
        start = _random_point(space, np.random.default_rng([options.seed, n]))


def _descent(
    space: Space, options: DescentOptions, incumbent: _Incumbent, start: Point, n: int
) -> Descent:
    """Cycles of line searches along the axes until every step is below the tolerance."""
    rng = np.random.default_rng([options.seed, n, 1])
    steps = [options.initial_step] * len(space.axes)
    # A later descent is not to go back to where an earlier one ended.
    floor = incumbent.best()[1] if n else -math.inf
    point, value = start, (yield start)
    while True:
        before, at_rest = point, True
        for j in options.order:
            if incumbent.best()[1] > max(value, floor):
                left, (point, value) = point, incumbent.best()
                steps = [
                    max(s, min(options.initial_step, abs(p - q)))
                    for s, p, q in zip(steps, left, point)
                ]
            if _at_rest(space.axes[j], point[j], steps[j], options):
                continue
            searched, at_rest = point, False
            if space.axes[j].nominal:
                point, value = yield from _try_levels(space, j, point, value, rng)
            else:
                point, value = yield from _search_axis(space, j, point, value, steps[j], options)
            moved = abs(point[j] - searched[j])
            steps[j] = min(
                options.initial_step, max(_SHRINK_MOVED * moved, _SHRINK_STUCK * steps[j])
            )
        if at_rest or value == -math.inf:
            return
        point, value = yield from _pattern_move(space, before, point, value, options)


def _at_rest(axis: Axis, position: float, step: float, options: DescentOptions) -> bool:
    if axis.n_levels is None:
        return step < options.tolerance
    # However far apart its levels are, an axis is searched until it has twice not moved.
    stuck = _SHRINK_STUCK * options.initial_step
    if axis.nominal:
        return step < stuck
    gaps = (abs(axis.neighbour(position, side) - position) for side in (-1.0, 1.0))
    gap = min((g for g in gaps if g > 0.0), default=0.0)
    return step < min(stuck, max(options.tolerance, _LEVEL_SHARE * gap))


def _search_axis(
    space: Space, j: int, point: Point, value: float, step: float, options: DescentOptions
) -> Generator[Point, float, tuple[Point, float]]:
    axis, origin = space.axes[j], point[j]

    def at(change: float) -> Point:
        return (*point[:j], axis.snap(origin + change), *point[j + 1 :])

    def snap(change: float) -> float:
        return axis.move(origin, change) - origin if change else 0.0

    return (yield from _search_line(value, step, -origin, 1.0 - origin, snap, at, options))


def _pattern_move(
    space: Space, before: Point, point: Point, value: float, options: DescentOptions
) -> Generator[Point, float, tuple[Point, float]]:
    """After a cycle that moved two axes or more: on along the total displacement (Hooke and
    Jeeves, 1961)."""
    change = [0.0 if a.nominal else p - b for a, b, p in zip(space.axes, before, point)]
    if sum(abs(c) > RESOLUTION for c in change) < 2:
        return point, value
    length = math.hypot(*change)
    direction = [c / length for c in change]
    room = min(((1.0 - p) / d if d > 0 else -p / d) for p, d in zip(point, direction) if d != 0.0)

    def at(distance: float) -> Point:
        return space.snap([p + distance * d for p, d in zip(point, direction)])

    return (
        yield from _search_line(value, length, 0.0, room, lambda distance: distance, at, options)
    )


def _search_line(
    value: float,
    step: float,
    low: float,
    high: float,
    snap: Callable[[float], float],
    at: Callable[[float], Point],
    options: DescentOptions,
) -> Generator[Point, float, tuple[Point, float]]:
    """Run the line search, whose positions ``at`` turns into points."""
    search = LINE_SEARCHES[options.line_search](
        value, step=step, low=low, high=high, resolution=RESOLUTION, snap=snap
    )
    try:
        position = next(search)
        while True:
            position = search.send((yield at(position)))
    except StopIteration as result:
        position, value = result.value
        return at(position), value


def _try_levels(
    space: Space, j: int, point: Point, value: float, rng: np.random.Generator
) -> Generator[Point, float, tuple[Point, float]]:
    """Every other level of a nominal axis, or a random choice where there are many."""
    n_levels = space.axes[j].n_levels
    assert n_levels is not None
    levels = [k / (n_levels - 1) for k in range(n_levels)]
    if n_levels > _MAX_NOMINAL_LEVELS:
        levels = [levels[k] for k in rng.permutation(n_levels)[:_MAX_NOMINAL_LEVELS]]
    best = (point, value)
    for level in levels:
        candidate = (*point[:j], space.axes[j].snap(level), *point[j + 1 :])
        if candidate != point:
            known = yield candidate
            best = (candidate, known) if known > best[1] else best
    return best


def _random_point(space: Space, rng: np.random.Generator) -> Point:
    return tuple(a.at_random(float(u)) for a, u in zip(space.axes, rng.random(len(space.axes))))


def _mean(values: list[float]) -> float:
    """The mean; minus infinity as soon as one of them is."""
    return -math.inf if -math.inf in values else sum(values) / len(values)
