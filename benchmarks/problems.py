"""What ``search.py`` searches, in two halves: searches are developed on one, and tables report the
other. The halves share no seed of a synthetic surface, no function of BBOB and no landscape."""

from __future__ import annotations

from functools import cache

from bbob import functions
from problem import Problem
from recorded import landscapes
from synthetic import surfaces


HALVES = ("development", "reporting")
FAMILIES = ("synthetic", "bbob", "landscape")


@cache
def problems(half: str) -> list[Problem]:
    """All problems of a half.

    Raises:
        ValueError: There is no such half.
    """
    if half not in HALVES:
        raise ValueError(f"`half` is {half!r}; it should be one of {', '.join(HALVES)}.")
    return [*surfaces(half), *functions(half), *landscapes(half)]


def named_problem(half: str, name: str) -> Problem:
    return next(problem for problem in problems(half) if problem.name == name)
