"""Model-free coordinate descent: cycles of line searches along the axes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Generator
import math

import numpy as np

from cbal_optuna.search.history import History
from cbal_optuna.search.line_search import parabolic
from cbal_optuna.search.nominal import try_levels
from cbal_optuna.search.proposal import DescentOptions
from cbal_optuna.search.proposal import Proposal
from cbal_optuna.search.replay import free_point
from cbal_optuna.search.replay import random_point
from cbal_optuna.search.replay import replay
from cbal_optuna.search.space import Axis
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space


RESOLUTION = 0.01
_SHRINK_MOVED = 0.5
_SHRINK_STUCK = 0.4
# Below this share of the gap between two levels, a step can no longer tell them apart.
_LEVEL_SHARE = 0.3
# A replay that has asked for known points again this often is taken to go round in circles.
_MAX_REPEATS = 2_000

Descent = Generator[Proposal, float, None]
Search = Generator[Proposal, float, tuple[Point, float]]


def next_proposal(
    history: History, pending: Collection[Point], space: Space, options: DescentOptions
) -> Proposal:
    """What the descent evaluates next: see :func:`~cbal_optuna.search.next_point`."""
    n_taken = len(set(history.points).union(pending))
    proposal = None
    if n_taken < space.size:
        incumbent = _Incumbent(history)
        descent = incumbent.follow(_descents(space, options, incumbent))
        proposal = replay(descent, history, pending, n_taken + _MAX_REPEATS)
    return proposal or free_point(history, pending, space, options)


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

    def follow(self, descent: Descent) -> Descent:
        """The descent itself, watched."""
        proposal = next(descent)
        while True:
            value = yield proposal
            if proposal.point in self._history:
                number = self._history.number(proposal.point)
                self._last_replayed = max(self._last_replayed, number)
            proposal = descent.send(value)

    def best(self) -> tuple[Point, float]:
        while self._next is not None and self._history.number(self._next) <= self._last_replayed:
            known = self._history.value(self._next)
            if known > self._best[1]:
                self._best = (self._next, known)
            self._next = next(self._coming, None)
        return self._best


def _descents(space: Space, options: DescentOptions, incumbent: _Incumbent) -> Descent:
    """One descent after the other: from the start, then from random points."""
    start, n = options.start, 0
    while True:
        yield from _descent(space, options, incumbent, start, n)
        n += 1
        start = random_point(space, np.random.default_rng([options.seed, n]))


def _descent(
    space: Space, options: DescentOptions, incumbent: _Incumbent, start: Point, n: int
) -> Descent:
    """Cycles of line searches along the axes until every step is below the tolerance."""
    rng = np.random.default_rng([options.seed, n, 1])
    steps = [options.initial_step] * len(space.axes)
    # A later descent is not to go back to where an earlier one ended.
    floor = incumbent.best()[1] if n else -math.inf
    point, value = start, (yield Proposal(start, "random" if n else "start"))
    while True:
        before, at_rest = point, True
        for j in options.order:
            if incumbent.best()[1] > max(value, floor):
                left, (point, value) = point, incumbent.best()
                steps = [
                    max(s, min(options.initial_step, abs(p - q)))
                    for s, p, q in zip(steps, left, point)
                ]
            axis = space.axes[j]
            if axis.name in space.idle(point) or _at_rest(axis, point[j], steps[j], options):
                continue
            searched, at_rest = point, False
            if axis.nominal:
                point, value = yield from try_levels(space, j, point, value, rng)
            else:
                point, value = yield from _search_axis(space, j, point, value, steps[j])
            moved = abs(point[j] - searched[j])
            steps[j] = min(
                options.initial_step, max(_SHRINK_MOVED * moved, _SHRINK_STUCK * steps[j])
            )
        if at_rest or value == -math.inf:
            return
        point, value = yield from _pattern_move(space, before, point, value)


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


def _search_axis(space: Space, j: int, point: Point, value: float, step: float) -> Search:
    axis, origin = space.axes[j], point[j]

    def at(change: float) -> Point:
        return space.pinned((*point[:j], axis.snap(origin + change), *point[j + 1 :]))

    def snap(change: float) -> float:
        return axis.move(origin, change) - origin if change else 0.0

    line = (axis.name, point)
    return (yield from _search_line(value, step, -origin, 1.0 - origin, snap, at, line))


def _pattern_move(space: Space, before: Point, point: Point, value: float) -> Search:
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

    names = [axis.name for axis, c in zip(space.axes, change) if c != 0.0]
    line = (" + ".join(names), point)
    return (yield from _search_line(value, length, 0.0, room, lambda distance: distance, at, line))


def _search_line(
    value: float,
    step: float,
    low: float,
    high: float,
    snap: Callable[[float], float],
    at: Callable[[float], Point],
    line: tuple[str, Point],
) -> Search:
    """Run the line search, whose positions ``at`` turns into points."""
    search = parabolic(value, step=step, low=low, high=high, resolution=RESOLUTION, snap=snap)
    try:
        position = next(search)
        while True:
            position = search.send((yield Proposal(at(position), *line)))
    except StopIteration as result:
        position, value = result.value
        return at(position), value
