"""Running a search over what is known already.

A search is written as a generator that proposes a point, is sent the value there and goes on. To
find its next point it is *replayed* from its start over the recorded values, and the first point
that nobody has evaluated is the answer. So nothing has to be remembered between calls: a resumed
search, a second worker and an undisturbed search all do the same.

A point that another worker is evaluating is answered, for the time being, with the lowest value
known: the replay then goes on to what would be asked next if that point is no improvement, which
gives every worker another useful point.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Iterator
import itertools

import numpy as np

from cbal_optuna.search.history import History
from cbal_optuna.search.proposal import DescentOptions
from cbal_optuna.search.proposal import Proposal
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space


# So many random points are tried before all points are gone through.
_MAX_DRAWS = 100


def replay(
    search: Generator[Proposal, float, None],
    history: History,
    pending: Collection[Point],
    max_answers: int,
) -> Proposal | None:
    """The first proposal that is neither in the history nor pending; :obj:`None` if the search
    ends before, or takes more answers."""
    guess = history.lowest
    proposal = next(search)
    for _ in range(max_answers):
        if proposal.point in history:
            value = history.value(proposal.point)
        elif proposal.point in pending:
            value = guess
        else:
            return proposal
        try:
            proposal = search.send(value)
        except StopIteration:
            return None
    return None


def free_point(
    history: History, pending: Collection[Point], space: Space, options: DescentOptions
) -> Proposal:
    """A random point that is neither in the history nor pending, while there is one; the best
    point of the history, to be evaluated again, when the whole space has been."""
    taken = set(history.points).union(pending)
    rng = np.random.default_rng([options.seed, len(history), len(taken)])
    draws = (random_point(space, rng) for _ in range(_MAX_DRAWS if len(taken) < space.size else 0))
    everywhere: Iterator[Point] = itertools.chain(draws, space.points())
    free = next((p for p in everywhere if p not in taken), None)
    if free is not None:
        return Proposal(free, "random")
    return Proposal(history.best if len(history) else options.start, "repeat")


def random_point(space: Space, rng: np.random.Generator) -> Point:
    draws = zip(space.axes, rng.random(len(space.axes)))
    return space.pinned(tuple(axis.at_random(float(u)) for axis, u in draws))
