"""A search that starts from what another study has found."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.storages import InMemoryStorage
from optuna.storages import RDBStorage
from optuna.trial import create_trial
import pytest

from cbal_optuna.named_samplers import SAMPLERS
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import Setting
from cbal_optuna.report import result_text
from cbal_optuna.study import load_or_create
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.warm_start import recorded_start
from cbal_optuna.warm_start import warm_start


Objectives = Callable[..., RetrievalObjective]

FOUND = {"balance": 20.0, "temperature": 0.3, "batch_size": 16}
NARROW = SearchSpace(
    balance=FloatDistribution(0.5, 8.0, log=True), batch_size=CategoricalDistribution((8, 32))
)


def tuned(
    storage: BaseStorage, objective: RetrievalObjective, found: Setting, name: str = "frozen"
) -> None:
    """A study that recommends a setting."""
    study = load_or_create(name, storage, objective)
    usual = objective.space.searched(objective.space.usual)
    for params, value in ((usual, 0.2), (found, 0.6)):
        study.add_trial(
            create_trial(params=params, distributions=objective.space.distributions, value=value)
        )


def opened(
    objective: RetrievalObjective,
    storage: BaseStorage,
    start_from: str | None = "frozen",
    sampler: str = "cd",
) -> optuna.Study:
    return open_study("whole", storage, objective, sampler, 0, start_from=start_from)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_start_follows_the_usual_setting_for_every_sampler(
    tiny_objective: Objectives, sampler: str
) -> None:
    storage, objective = InMemoryStorage(), tiny_objective()
    tuned(storage, objective, FOUND)
    study = opened(objective, storage, sampler=sampler)
    run_trials(study, objective, 3)
    usual, start, searched = (trial.params for trial in study.trials)
    assert usual == objective.space.searched(objective.space.usual)
    assert start == FOUND
    assert searched not in (usual, start)


def test_coordinate_descent_steps_from_the_start(tiny_objective: Objectives) -> None:
    storage, objective = InMemoryStorage(), tiny_objective()
    tuned(storage, objective, FOUND)
    study = opened(objective, storage)
    run_trials(study, objective, 3)
    step = study.trials[2].params
    assert step["balance"] != FOUND["balance"]
    assert {**step, "balance": FOUND["balance"]} == FOUND
    assert study.trials[2].user_attrs["search"]["incumbent"] == 1


def test_the_start_is_moved_into_the_ranges_that_are_searched(tiny_objective: Objectives) -> None:
    storage, objective = InMemoryStorage(), tiny_objective(space=NARROW)
    tuned(storage, tiny_objective(), FOUND)
    study = opened(objective, storage)
    run_trials(study, objective, 2)
    assert study.trials[1].params == {"balance": 8.0, "temperature": 0.3, "batch_size": 8}
    text = result_text(study)
    assert "The search started from balance 8, temperature 0.3, batch_size 8 (trial 1: " in text
    assert "frozen recommends (balance 20, temperature 0.3, batch_size 16; this is the" in text


def test_what_the_other_study_has_fixed_is_part_of_its_setting(
    tiny_objective: Objectives,
) -> None:
    storage, objective = InMemoryStorage(), tiny_objective()
    fixed = tiny_objective(space=SearchSpace(batch_size=16))
    tuned(storage, fixed, {"balance": 20.0, "temperature": 0.3})
    start = warm_start("whole", storage, objective.space, "frozen")
    assert start is not None and start.setting == FOUND


def test_a_study_without_another_one_does_not_speak_of_it(tiny_objective: Objectives) -> None:
    objective = tiny_objective()
    study = opened(objective, InMemoryStorage(), None)
    run_trials(study, objective, 1)
    assert recorded_start(study) is None
    assert "started from" not in result_text(study)


@pytest.mark.parametrize("again", ["frozen", None])
def test_a_resumed_study_keeps_its_start_whatever_the_other_finds_later(
    tiny_objective: Objectives, tmp_path: object, again: str | None
) -> None:
    storage, objective = RDBStorage(f"sqlite:///{tmp_path}/studies.db"), tiny_objective()
    tuned(storage, objective, FOUND)
    before = recorded_start(opened(objective, storage))
    tuned(storage, objective, {**FOUND, "balance": 2.0})
    study = opened(objective, storage, again)
    assert before == recorded_start(study)
    run_trials(study, objective, 2)
    assert study.trials[1].params == FOUND
    optuna.delete_study(study_name="frozen", storage=storage)
    assert recorded_start(opened(objective, storage, again)) == before


def test_a_resumed_search_equals_one_in_one_go(tiny_objective: Objectives) -> None:
    objective, studies = tiny_objective(), []
    for stops in ((2, 5, 8), (8,)):
        storage = InMemoryStorage()
        tuned(storage, objective, FOUND)
        for stop in stops:
            study = opened(objective, storage, "frozen" if stop == stops[0] else None)
            run_trials(study, objective, stop)
        studies.append([trial.params for trial in study.trials])
    assert studies[0] == studies[1]


@pytest.mark.parametrize(("first", "own"), [(None, "the usual start"), ("frozen", "'frozen'")])
def test_a_study_that_has_begun_takes_no_other_start(
    tiny_objective: Objectives, first: str | None, own: str
) -> None:
    storage, objective = InMemoryStorage(), tiny_objective()
    for name in ("frozen", "other"):
        tuned(storage, objective, FOUND, name)
    opened(objective, storage, first)
    with pytest.raises(ValueError, match=f"`start_from` is 'other'.* has begun from {own}"):
        opened(objective, storage, "other")


def test_there_must_be_something_to_start_from(tiny_objective: Objectives) -> None:
    storage, objective = InMemoryStorage(), tiny_objective()
    with pytest.raises(ValueError, match="'nosuch', no study of this storage.* it has none"):
        opened(objective, storage, "nosuch")
    with pytest.raises(ValueError, match="'whole', the name of the study that starts"):
        opened(objective, storage, "whole")
    margin = tiny_objective(loss="margin")
    tuned(storage, margin, margin.space.searched(margin.space.start), "m")
    with pytest.raises(ValueError, match="a study of the margin loss; .* of the infonce loss"):
        opened(objective, storage, "m")
    load_or_create("empty", storage, objective)
    with pytest.raises(ValueError, match="a study without a feasible value"):
        opened(objective, storage, "empty")
    optuna.create_study(study_name="foreign", storage=storage)
    with pytest.raises(ValueError, match="not made by a study of this package"):
        opened(objective, storage, "foreign")
    load_or_create("m.test", storage, margin, fresh_seeds="test")
    with pytest.raises(ValueError, match="'m.test', a comparison; .* one of empty, foreign, m"):
        opened(objective, storage, "m.test")
    with pytest.raises(ValueError, match=r"it should be one of empty, foreign, m\."):
        opened(objective, storage, "nosuch")
    assert "whole" not in optuna.get_all_study_names(storage)


def test_a_study_without_one_of_the_parameters_is_refused(tiny_objective: Objectives) -> None:
    storage, objective = InMemoryStorage(), tiny_objective()
    tuned(storage, objective, FOUND)
    study = optuna.load_study(study_name="frozen", storage=storage)
    identity = dict(study.user_attrs["objective"])
    identity["space"] = {n: d for n, d in identity["space"].items() if n != "learning_rate"}
    study.set_user_attr("objective", identity)
    searched = SearchSpace(learning_rate=FloatDistribution(1e-4, 1e-2, log=True))
    with pytest.raises(ValueError, match="without learning_rate; .* balance, temperature, batch"):
        warm_start("whole", storage, searched, "frozen")
