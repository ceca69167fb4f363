"""Coordinate descent on a model of all evaluations.

The first cycle needs no model: one step along each axis in turn, from the best point so far, and a
second one where the first was an improvement. From then on each trial goes where the model expects
the largest improvement over the incumbent: on a line through the incumbent along one axis, along
two whose ratio or product stays the same, or towards another good point; or, when no line promises
as much, anywhere in the space.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Iterator
import itertools
import math

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from cbal_optuna.search.history import History
from cbal_optuna.search.nominal import MAX_LEVELS
from cbal_optuna.search.nominal import try_levels
from cbal_optuna.search.proposal import DescentOptions
from cbal_optuna.search.proposal import Proposal
from cbal_optuna.search.replay import free_point
from cbal_optuna.search.replay import replay
from cbal_optuna.search.response import Response
from cbal_optuna.search.space import Axis
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space


Array = NDArray[np.float64]
Line = tuple[str, Array]

WHOLE_SPACE = "whole space"

# The second step of the first cycle, as a share of the first.
_EXPANSION = 0.8
# Positions on a line, relative to its length, and close to the incumbent.
_COARSE = np.linspace(-1.0, 1.0, 81)
_FINE = np.linspace(-0.06, 0.06, 25)
_N_EVERYWHERE = 400
_N_AROUND = 300
_AROUND = (0.15, 0.04)
_N_POLISH = 100
_POLISH = (0.08, 0.03, 0.01)
_RELEVEL = 0.2
# A space of fewer points is looked at as a whole.
_SMALL_SPACE = 2_000


def next_proposal(
    history: History, pending: Collection[Point], space: Space, options: DescentOptions
) -> Proposal:
    """What is evaluated next: see :func:`~cbal_optuna.search.next_point`."""
    under_way = {point for point in pending if point not in history}
    if len(history) + len(under_way) >= space.size:
        return free_point(history, pending, space, options)
    longest = 1 + sum(MAX_LEVELS if axis.nominal else 2 for axis in space.axes)
    if len(history) < longest:
        proposal = replay(_first_cycle(space, options), history, pending, longest)
        if proposal is not None:
            return proposal
    if not history.any_finite:
        return free_point(history, pending, space, options)
    response = Response(history, pending, space, options.seed)
    rng = np.random.default_rng([options.seed, len(history) + len(under_way), 2])
    proposal = most_promising(
        response, lambda point: point in history or point in under_way, space, rng
    )
    return proposal or free_point(history, pending, space, options)


def _first_cycle(space: Space, options: DescentOptions) -> Generator[Proposal, float, None]:
    rng = np.random.default_rng([options.seed, 1])
    point = options.start
    value = yield Proposal(point, "start")
    for j in options.order:
        axis = space.axes[j]
        if axis.nominal:
            point, value = yield from try_levels(space, j, point, value, rng)
            continue
        step = options.initial_step if point[j] <= 0.5 else -options.initial_step
        for change in (step, _EXPANSION * step):
            probe = space.pinned((*point[:j], axis.move(point[j], change), *point[j + 1 :]))
            if probe == point:
                break
            known = yield Proposal(probe, axis.name, point)
            if known <= value:
                break
            point, value = probe, known


def most_promising(
    response: Response, taken: Callable[[Point], bool], space: Space, rng: np.random.Generator
) -> Proposal | None:
    """The free point of the largest expected improvement; :obj:`None` if no candidate is free.

    Args:
        response:
            What is known of the objective.
        taken:
            Whether a point is not free.
        space:
            The search space.
        rng:
            Draws the points that are looked at off the lines.
    """
    lines = list(_lines(response, space))
    if space.size <= _SMALL_SPACE:
        lines.append((WHOLE_SPACE, np.array(list(space.points()))))
    else:
        around = [_around(response.incumbent, s, _N_AROUND, space, rng) for s in _AROUND]
        everywhere = rng.random((_N_EVERYWHERE, len(space.axes)))
        lines.append((WHOLE_SPACE, np.vstack([everywhere, *around])))
    names = [name for name, points in lines for _ in points]
    best = _best_free(response, np.vstack([points for _, points in lines]), taken, space)
    if best is None:
        return None
    index, point, promise = best
    line = names[index]
    if line == WHOLE_SPACE and space.size > _SMALL_SPACE:
        for spread in _POLISH:
            near = _around(np.array(point), spread, _N_POLISH, space, rng)
            polished = _best_free(response, near, taken, space)
            if polished is not None and polished[2] > promise:
                _, point, promise = polished
    origin = space.snap(response.incumbent.tolist())
    return Proposal(point, line, origin, response.expected_improvement(point))


def _best_free(
    response: Response, candidates: Array, taken: Callable[[Point], bool], space: Space
) -> tuple[int, Point, float] | None:
    """Index, point and expected improvement (on a log scale) of the best free candidate."""
    snapped = space.snap_all(candidates)
    promises = response.log_expected_improvement(snapped)
    for i in np.argsort(-promises, kind="stable").tolist():
        point = space.snap(snapped[i].tolist())
        if not taken(point):
            return i, point, float(promises[i])
    return None


def _lines(response: Response, space: Space) -> Iterator[Line]:
    """The lines through the incumbent, with the names of the axes they move along."""
    origin, axes = response.incumbent, space.axes
    idle = space.idle(space.snap(origin.tolist()))
    effective = [j for j, axis in enumerate(axes) if axis.name not in idle]
    for j in effective:
        yield axes[j].name, _axis_line(axes[j], origin, j)
    numeric = [j for j in effective if not axes[j].nominal]
    for (j, a), (k, b) in itertools.combinations([(j, axes[j]) for j in numeric], 2):
        if _is_log(a) and _is_log(b):
            for sign in (1.0, -1.0):
                direction = np.zeros(len(axes))
                direction[[j, k]] = 1.0 / _octaves(a), sign / _octaves(b)
                yield (
                    f"{a.name} {'/' if sign > 0 else '*'} {b.name} constant",
                    _line(origin, direction),
                )
    for other in response.ranked[1 : max(len(axes) + 1, 4)]:
        direction = np.zeros(len(axes))
        direction[numeric] = (other - origin)[numeric]
        moved = [axes[j].name for j in np.flatnonzero(direction)]
        if len(moved) > 1:
            yield " + ".join(moved), _line(origin, direction)


def _axis_line(axis: Axis, origin: Array, j: int) -> Array:
    positions = np.concatenate([np.linspace(0.0, 1.0, 41), origin[j] + _FINE])
    if axis.nominal:
        positions = np.array(list(axis.levels()))
    points = np.tile(origin, (len(positions), 1))
    points[:, j] = np.clip(positions, 0.0, 1.0)
    return points


def _line(origin: Array, direction: Array) -> Array:
    unit = direction / np.linalg.norm(direction)
    points = origin + np.concatenate([_COARSE, _FINE])[:, None] * unit
    return points[((points >= 0.0) & (points <= 1.0)).all(axis=1)]


def _around(origin: Array, spread: float, n: int, space: Space, rng: np.random.Generator) -> Array:
    """Normally distributed points around another; nominal axes change now and then."""
    points = origin + spread * rng.standard_normal((n, len(origin)))
    nominal = np.array([axis.nominal for axis in space.axes])
    kept = np.where(rng.random((n, len(origin))) < _RELEVEL, rng.random((n, len(origin))), origin)
    return np.clip(np.where(nominal, kept, points), 0.0, 1.0)


def _is_log(axis: Axis) -> bool:
    d = axis.distribution
    return isinstance(d, (FloatDistribution, IntDistribution)) and d.log


def _octaves(axis: Axis) -> float:
    d = axis.distribution
    assert isinstance(d, (FloatDistribution, IntDistribution))
    return math.log2(d.high / d.low)
