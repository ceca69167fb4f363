"""A point for each trial, such that no two workers of a study take the same."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from cbal_optuna.claims import known_values
from cbal_optuna.claims import may_move
from cbal_optuna.claims import write_claim
from cbal_optuna.search import DescentOptions
from cbal_optuna.search import History
from cbal_optuna.search import next_point
from cbal_optuna.search import Point
from cbal_optuna.search import Proposal
from cbal_optuna.search import Space
from cbal_optuna.study_history import StudyHistory


if TYPE_CHECKING:
    from optuna.study import Study

# How often a worker looks whether its claim stands, and how many of these times it waits for later
# ones to leave its point.
_MAX_CLAIM_READS = 50
_MAX_WAITS = 10


def claim_point(
    study: Study,
    trial: FrozenTrial,
    space: Space,
    distributions: Mapping[str, BaseDistribution],
    options: DescentOptions,
    finished: StudyHistory,
) -> Proposal:
    """Choose a point and write it on the trial for other workers to see.

    Two workers may choose the same point at the same time. Each writes its claim and then reads
    again: of the two, at least one sees the other. A point is kept when nobody else is seen on it.
    Until then the earliest trial stays, and reads again, as long as the others may still move;
    these take points that come later.

    Args:
        study, trial:
            For whom, as the study's storage knows the trial.
        space, distributions:
            Of the parameters to be chosen.
        options:
            Of the search.
        finished:
            What was read of the study. It is read again.
    """
    history = finished.evaluations(space)
    holders = _holders(finished, trial, space, options.start)
    proposal = _choose(history, holders, space, options, 0)
    write_claim(study, trial, space.decode(proposal.point), distributions)
    n_waits = 0
    for _ in range(_MAX_CLAIM_READS):
        if proposal.line == "repeat":
            break
        finished.read(study)
        history = finished.evaluations(space)
        holders = _holders(finished, trial, space, options.start)
        rivals = holders.get(proposal.point, [])
        evaluated = proposal.point in history
        if not rivals and not evaluated:
            break
        n_earlier = sum(rival.number < trial.number for rival in rivals)
        wait = not evaluated and not n_earlier and all(map(may_move, rivals))
        if wait and n_waits < _MAX_WAITS:
            n_waits += 1
            continue
        proposal = _choose(history, holders, space, options, max(0, n_earlier - 1))
        write_claim(study, trial, space.decode(proposal.point), distributions)
    return proposal


def is_contested(
    trial: FrozenTrial,
    point: Point,
    space: Space,
    options: DescentOptions,
    finished: StudyHistory,
) -> bool:
    """Whether a claim was inherited from a worker that was killed before it looked again, and is
    somebody else's."""
    if not may_move(trial):
        return False
    holders = _holders(finished, trial, space, options.start)
    return point in finished.evaluations(space) or point in holders


def _choose(
    history: History,
    pending: Collection[Point],
    space: Space,
    options: DescentOptions,
    rank: int,
) -> Proposal:
    """What follows when ``rank`` others take theirs first."""
    taken = set(pending)
    for _ in range(rank):
        taken.add(next_point(history, taken, space, options).point)
    return next_point(history, taken, space, options)


def _holders(
    finished: StudyHistory, trial: FrozenTrial, space: Space, start: Point
) -> dict[Point, list[FrozenTrial]]:
    """The points under way and the trials that hold them, but for one's own.

    When workers start together, some suggest one parameter after the other without a claim. Until
    all their values are known they hold the point that has the others of the start: the first
    trial is there, and any other may turn out to be.
    """
    holders: dict[Point, list[FrozenTrial]] = {}
    for other in finished.under_way:
        if other.number == trial.number:
            continue
        values = known_values(other, space)
        if values or other.number == finished.first:
            values = {**space.decode(start), **values}
        point = space.encode(values)
        if point is not None:
            holders.setdefault(point, []).append(other)
    return holders
