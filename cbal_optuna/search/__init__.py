"""The search itself: history in, next point out. No study, no storage, no torch."""

from __future__ import annotations

from cbal_optuna.search.descent import LINE_SEARCHES
from cbal_optuna.search.descent import next_point
from cbal_optuna.search.history import History
from cbal_optuna.search.proposal import DescentOptions
from cbal_optuna.search.proposal import Proposal
from cbal_optuna.search.replicates import KnownNoise
from cbal_optuna.search.replicates import Replicates
from cbal_optuna.search.response import Response
from cbal_optuna.search.space import Axis
from cbal_optuna.search.space import Condition
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space
from cbal_optuna.search.surrogate_descent import most_promising


__all__ = [
    "Axis",
    "Condition",
    "DescentOptions",
    "History",
    "KnownNoise",
    "LINE_SEARCHES",
    "Point",
    "Proposal",
    "Replicates",
    "Response",
    "Space",
    "most_promising",
    "next_point",
]
