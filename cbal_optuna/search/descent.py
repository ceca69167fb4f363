"""Coordinate descent as a pure function: the trials so far in, the next point out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection

from cbal_optuna.search import parabolic_descent
from cbal_optuna.search import surrogate_descent
from cbal_optuna.search.history import History
from cbal_optuna.search.proposal import DescentOptions
from cbal_optuna.search.proposal import Proposal
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space


LINE_SEARCHES: dict[
    str, Callable[[History, Collection[Point], Space, DescentOptions], Proposal]
] = {
    "surrogate": surrogate_descent.next_proposal,
    "parabolic": parabolic_descent.next_proposal,
}


def next_point(
    history: History,
    pending: Collection[Point],
    space: Space,
    options: DescentOptions,
) -> Proposal:
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
    return LINE_SEARCHES[options.line_search](history, pending, space, options)
