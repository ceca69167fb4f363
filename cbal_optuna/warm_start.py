"""The start of a search from what another study has found: one of similar data, or of a cheaper
training.

What is best there need not be good here, so the usual setting is tried first all the same. Between
birds and flowers the start saved trials, from a head on frozen features to the whole network it
did not (``benchmarks/results/warm_start_recorded.json`` and ``warm_start.json``). The study keeps
its start in its user attributes, and goes on from it whatever becomes of the other one.
"""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import Setting
from cbal_optuna.summary import recommended_trial


OBJECTIVE = "objective"
# What a study evaluates has this, if it is no search but a comparison with fresh seeds.
FRESH_SEEDS = "fresh_seeds"
_START = "start"


@dataclass(frozen=True)
class WarmStart:
    """Where a search starts.

    Attributes:
        study:
            The name of the study that recommends the setting.
        trial:
            The number of its recommended trial.
        found:
            The setting there, as far as it is searched here.
        setting:
            The nearest one in the space that is searched here.
    """

    study: str
    trial: int
    found: Setting
    setting: Setting


def warm_start(
    name: str, storage: BaseStorage, space: SearchSpace, start_from: str | None
) -> WarmStart | None:
    """Where the search of a study starts; :obj:`None` where that of its space does.

    Args:
        name, storage:
            Of the study, which need not exist.
        space:
            What it searches.
        start_from:
            The name of a study in the same storage. A study that has begun goes on from its own
            start without it.

    Raises:
        ValueError: There is no such study, it is of something else or has found nothing, or the
            search has begun from elsewhere.
    """
    if start_from == name:
        raise ValueError(
            f"`start_from` is {start_from!r}, the name of the study that starts; one of the two "
            "should be another."
        )
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        start = recorded_start(study)
        if start is not None or study.get_trials(deepcopy=False):
            return _continued(study, start, start_from)
    return None if start_from is None else _recommended(start_from, storage, space)


def record_start(study: Study, start: WarmStart) -> None:
    study.set_user_attr(_START, asdict(start))


def recorded_start(study: Study) -> WarmStart | None:
    """Where a study started, if another study said where."""
    start = study.user_attrs.get(_START)
    # Studies of others may have an attribute of that name.
    if not isinstance(start, dict) or start.keys() != WarmStart.__dataclass_fields__.keys():
        return None
    return WarmStart(**start)


def _continued(study: Study, start: WarmStart | None, start_from: str | None) -> WarmStart | None:
    if start_from is not None and (start is None or start.study != start_from):
        own = "the usual start" if start is None else repr(start.study)
        raise ValueError(
            f"`start_from` is {start_from!r}; the study {study.study_name!r} has begun from "
            f"{own}: use another `study_name`, or resume it without `start_from`."
        )
    return start


def _recommended(start_from: str, storage: BaseStorage, space: SearchSpace) -> WarmStart:
    """What a study recommends, in a space."""
    source = _loaded(start_from, storage)
    try:
        trial = recommended_trial(source)
    except ValueError as error:
        raise ValueError(
            f"`start_from` is {start_from!r}, a study without a feasible value; it should have "
            "one."
        ) from error
    # What it has not searched it has fixed.
    known = {**source.user_attrs[OBJECTIVE]["space"], **trial.params}
    _check_fits(start_from, source.user_attrs[OBJECTIVE], known, space)
    found = space.searched(known)
    return WarmStart(start_from, trial.number, found, space.searched(space.nearest(found)))


def _loaded(start_from: str, storage: BaseStorage) -> Study:
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    objectives = {s.study_name: s.user_attrs.get(OBJECTIVE) for s in summaries}
    searches = sorted(name for name, o in objectives.items() if not _is_comparison(o))
    if start_from not in searches:
        kind = "a comparison" if start_from in objectives else "no study of this storage"
        allowed = f"one of {', '.join(searches)}" if searches else "one, but it has none"
        raise ValueError(f"`start_from` is {start_from!r}, {kind}; it should be {allowed}.")
    source = optuna.load_study(study_name=start_from, storage=storage)
    objective = objectives[start_from]
    if not isinstance(objective, dict) or not isinstance(objective.get("space"), dict):
        raise ValueError(
            f"`start_from` is {start_from!r}, which was not made by a study of this package; it "
            "should be one that was."
        )
    return source


def _is_comparison(objective: Any) -> bool:
    return isinstance(objective, dict) and FRESH_SEEDS in objective


def _check_fits(
    start_from: str, objective: dict[str, Any], known: Setting, space: SearchSpace
) -> None:
    if objective["loss"] != space.loss:
        raise ValueError(
            f"`start_from` is {start_from!r}, a study of the {objective['loss']} loss; it should "
            f"be one of the {space.loss} loss."
        )
    for name in space.distributions:
        if name not in known:
            raise ValueError(
                f"`start_from` is {start_from!r}, a study without {name}; it should have all of "
                f"{', '.join(space.distributions)}."
            )
