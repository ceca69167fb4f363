"""Searching an axis whose levels have no order."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from cbal_optuna.search.proposal import Proposal
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space


MAX_LEVELS = 6


def try_levels(
    space: Space, j: int, point: Point, value: float, rng: np.random.Generator
) -> Generator[Proposal, float, tuple[Point, float]]:
    """Every other level of a nominal axis, or a random choice where there are many.

    Returns:
        The best point and its value.
    """
    axis = space.axes[j]
    levels = list(axis.levels())
    if len(levels) > MAX_LEVELS:
        levels = [levels[k] for k in rng.permutation(len(levels))[:MAX_LEVELS]]
    best = (point, value)
    for level in levels:
        candidate = space.pinned((*point[:j], level, *point[j + 1 :]))
        if candidate != point:
            known = yield Proposal(candidate, axis.name, point)
            best = (candidate, known) if known > best[1] else best
    return best
