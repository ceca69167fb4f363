"""How a search is to move, and where it wants to go next."""

from __future__ import annotations

from dataclasses import dataclass

from cbal_optuna.search.space import Point


@dataclass(frozen=True)
class DescentOptions:
    """How the descent moves.

    Args:
        start:
            The first point.
        order:
            The axes, by index, in the order in which they are searched.
        line_search:
            A key of :data:`~cbal_optuna.search.LINE_SEARCHES`.
        initial_step:
            The first step on every axis, as a share of its range.
        tolerance:
            The step below which the model-free descent has converged; it then starts again
            elsewhere.
        seed:
            Decides all that is drawn at random: starts after the first, the levels of a long
            nominal axis that are tried, and the draws of the model.
    """

    start: Point
    order: tuple[int, ...]
    line_search: str = "surrogate"
    initial_step: float = 0.25
    tolerance: float = 0.015
    seed: int = 0


@dataclass(frozen=True)
class Proposal:
    """A point to evaluate, and why.

    Args:
        point:
            The point.
        line:
            What is searched: the name of an axis, several joined by ``" + "``, or ``"start"``,
            ``"whole space"``, ``"random"`` or ``"repeat"``.
        origin:
            The point from which the line is searched, if there is one.
        expected_improvement:
            By how much the objective is expected to get better, in its own unit, where there is a
            model.
    """

    point: Point
    line: str
    origin: Point | None = None
    expected_improvement: float | None = None
