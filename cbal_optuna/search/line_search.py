"""Model-free line search: bracket a maximum from a start, then refine it by parabolas.

After Brent, "Algorithms for Minimization without Derivatives" (1973), chapter 5: a parabola
through the bracket where it helps, a golden section where it does not. The step rules are ours and
are made for 2 to 8 evaluations a line.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
import math


EXPANSION = 1.8
MAX_EXPANSIONS = 4
MAX_REFINEMENTS = 2
_GOLDEN = (3.0 - math.sqrt(5.0)) / 2.0

LineSearch = Generator[float, float, tuple[float, float]]


def parabolic(
    value: float,
    *,
    step: float,
    low: float,
    high: float,
    resolution: float,
    snap: Callable[[float], float],
) -> LineSearch:
    """Search a line for a maximum.

    A generator: it yields the position to evaluate next and is sent the value there; values may be
    infinite.

    Args:
        value:
            The value at the start, position 0.
        step:
            The first step.
        low, high:
            The ends of the line, ``low <= 0 <= high``.
        resolution:
            Positions closer than this are not told apart.
        snap:
            Gives the admissible position nearest to a position, other than 0 if there is one on
            that side.

    Returns:
        The best position and its value; position 0 unless something better was found.
    """
    known = {0.0: value}
    yield from _probe(known, step, low, high, snap)
    if _best(known) != 0.0:
        yield from _expand(known, low, high, resolution, snap)
    for _ in range(MAX_REFINEMENTS):
        position = _refinement(known, resolution)
        position = None if position is None else snap(position)
        if position is None or _distance(known, position) < resolution:
            break
        known[position] = yield position
    best = _best(known)
    return best, known[best]


def _probe(
    known: dict[float, float], step: float, low: float, high: float, snap: Callable[[float], float]
) -> Generator[float, float, None]:
    """One step to the roomier side and, unless that is better, one to the other."""
    up_first = high >= -low
    for up in (up_first, not up_first):
        position = snap(min(step, high) if up else max(-step, low))
        if position in known:
            continue
        known[position] = yield position
        if known[position] > known[0.0]:
            return


def _expand(
    known: dict[float, float],
    low: float,
    high: float,
    resolution: float,
    snap: Callable[[float], float],
) -> Generator[float, float, None]:
    """Growing steps past the better side for as long as they improve."""
    best = _best(known)
    step = best
    for _ in range(MAX_EXPANSIONS):
        step *= EXPANSION
        position = snap(min(max(best + step, low), high))
        if _distance(known, position) < resolution:
            return
        known[position] = yield position
        if known[position] <= known[best]:
            return
        best = position


def _refinement(known: dict[float, float], resolution: float) -> float | None:
    """The vertex of the parabola through the best position and its neighbours, else a golden
    section; :obj:`None` where there is nothing to refine."""
    positions = sorted(known)
    best = _best(known)
    i = positions.index(best)
    if len(positions) < 2 or known[best] == -math.inf:
        return None
    if i in (0, len(positions) - 1):
        neighbour = positions[1] if i == 0 else positions[-2]
        return best + _GOLDEN * (neighbour - best)
    left, right = positions[i - 1], positions[i + 1]
    vertex = _vertex(left, best, right, known[left], known[best], known[right])
    if abs(vertex - best) >= max(resolution, 0.02 * (right - left)):
        return vertex
    wider = right if right - best > best - left else left
    return best + _GOLDEN * (wider - best)


def _vertex(a: float, b: float, c: float, fa: float, fb: float, fc: float) -> float:
    """Where the parabola through three points, the middle one the highest, has its maximum (b if
    it has none)."""
    if not (math.isfinite(fa) and math.isfinite(fb) and math.isfinite(fc)):
        return b
    left, right = (b - a) * (fb - fc), (b - c) * (fb - fa)
    if left == right:
        return b
    vertex = b - 0.5 * ((b - a) * left - (b - c) * right) / (left - right)
    return vertex if a < vertex < c else b


def _best(known: dict[float, float]) -> float:
    """The position of the highest value, of the first evaluated among equals."""
    return max(known, key=known.__getitem__)


def _distance(known: dict[float, float], position: float) -> float:
    return min(abs(position - k) for k in known)
