from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
import pytest

from cbal_optuna.named_samplers import SAMPLERS
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.storage import open_storage
from cbal_optuna.stored_trials import ask
from cbal_optuna.study import check_study
from cbal_optuna.study import FailingTrialsError
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study import run_usual


Objectives = Callable[..., RetrievalObjective]


def opened(
    objective: RetrievalObjective, storage: optuna.storages.BaseStorage, sampler: str = "cd"
) -> optuna.Study:
    return open_study("tiny", storage, objective, sampler, 0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trial_0_is_the_usual_setting_for_every_sampler(
    tiny_objective: Objectives, sampler: str
) -> None:
    objective = tiny_objective()
    study = opened(objective, InMemoryStorage(), sampler)
    run_trials(study, objective, 4)
    assert study.trials[0].params == {"balance": 1.0, "temperature": 0.1, "batch_size": 32}
    assert len(study.trials) == 4


def test_the_margin_study_has_the_usual_setting_beside_the_start(
    tiny_objective: Objectives,
) -> None:
    objective = tiny_objective(loss="margin")
    study = opened(objective, InMemoryStorage())
    run_trials(study, objective, 3)
    usual, start, searched = (trial.params for trial in study.trials)
    assert usual == {"balance": 1.0, "margin": 0.5, "aggregation": "nonzero", "batch_size": 32}
    assert start == objective.space.searched(objective.space.start)
    assert searched not in (usual, start)


def test_the_number_of_trials_is_that_of_the_study(tiny_objective: Objectives) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()
    run_trials(opened(objective, storage), objective, 3)
    run_trials(opened(objective, storage), objective, 5)
    study = opened(objective, storage)
    run_trials(study, objective, 5)
    assert len(study.trials) == 5


def test_a_study_stops_when_it_is_asked_to(tiny_objective: Objectives) -> None:
    objective = tiny_objective()
    study = opened(objective, InMemoryStorage())
    run_trials(study, objective, 5, stop=lambda study: len(study.trials) == 2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_a_resumed_study_equals_one_in_one_go(tiny_objective: Objectives) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()
    for n_trials in (2, 5, 9):
        run_trials(opened(objective, storage), objective, n_trials)
    in_one_go = opened(objective, InMemoryStorage())
    run_trials(in_one_go, objective, 9)
    resumed = opened(objective, storage)
    assert [t.params for t in resumed.trials] == [t.params for t in in_one_go.trials]
    assert [t.value for t in resumed.trials] == [t.value for t in in_one_go.trials]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_resumed_study_does_not_draw_the_same_points_again(
    tiny_objective: Objectives, sampler: str
) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()
    for n_trials in (3, 6):
        study = opened(objective, storage, sampler)
        run_trials(study, objective, n_trials)
    points = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(points)) == 6


def test_the_usual_setting_of_a_killed_worker_is_evaluated_in_the_end(
    tiny_objective: Objectives,
) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()
    killed = opened(objective, storage).ask()
    objective.space.suggest(killed)
    study = opened(objective, storage)
    run_trials(study, objective, 2)
    run = partial(run_trials, study, objective)
    run_usual(study, objective, run)
    usual = objective.space.searched(objective.space.usual)
    complete = [t.params for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(complete) == 3 and complete[-1] == usual
    run_usual(study, objective, run)
    assert len(study.trials) == 4


def test_the_usual_setting_is_evaluated_once_when_its_worker_is_found_dead_late(
    tiny_objective: Objectives, tmp_path: Path
) -> None:
    objective, storage = tiny_objective(), open_storage(f"sqlite:///{tmp_path}/study.db")
    study = opened(objective, storage)
    killed = ask(study)
    objective.space.suggest(killed)
    killed.set_user_attr("seed", objective.seed)
    run_trials(study, objective, 2)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
    run_usual(study, objective, partial(run_trials, study, objective))
    run_trials(study, objective, 4)
    usual = objective.space.searched(objective.space.usual)
    of_usual = [t.state for t in study.trials if t.params == usual]
    assert of_usual == [TrialState.FAIL, TrialState.COMPLETE]
    assert len(study.trials) == 5


def test_what_was_queued_before_the_usual_setting_does_not_keep_it_from_being_evaluated(
    tiny_objective: Objectives,
) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()
    study = opened(objective, storage)
    study.tell(study.ask(), state=TrialState.FAIL)
    usual = objective.space.searched(objective.space.usual)
    study.enqueue_trial({**usual, "balance": 2.0})
    run_usual(study, objective, partial(run_trials, study, objective))
    complete = [t.params["balance"] for t in study.trials if t.state == TrialState.COMPLETE]
    assert complete == [2.0, usual["balance"]]


def test_what_two_machines_have_queued_at_once_is_withdrawn_once(
    tiny_objective: Objectives,
) -> None:
    objective, storage = tiny_objective(loss="margin"), InMemoryStorage()
    study = opened(objective, storage)
    # As another machine that saw no trial yet.
    for trial in study.trials:
        study.enqueue_trial(trial.system_attrs["fixed_params"])
    opened(objective, storage)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.WAITING] * 2 + [TrialState.FAIL] * 2


def test_a_failed_trial_is_recorded_and_does_not_count(tiny_objective: Objectives) -> None:
    objective = tiny_objective()

    def second_fails(trial: optuna.Trial) -> float:
        if trial.number == 1:
            raise OSError("the disk is gone")
        return objective(trial)

    study = opened(objective, InMemoryStorage())
    run_trials(study, second_fails, 4)
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.FAIL) == 1 and states.count(TrialState.COMPLETE) == 4


def test_failures_in_a_row_end_the_study(tiny_objective: Objectives) -> None:
    objective = tiny_objective()

    def fails(trial: optuna.Trial) -> float:
        raise OSError("the disk is gone")

    study = opened(objective, InMemoryStorage())
    with pytest.raises(FailingTrialsError, match="3 trials in a row failed.*the disk is gone"):
        run_trials(study, fails, 10)
    assert len(study.trials) == 3


def test_the_usual_setting_is_tried_again_if_it_failed(tiny_objective: Objectives) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()

    def interrupted(trial: optuna.Trial) -> float:
        objective.space.suggest(trial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(opened(objective, storage), interrupted, 2)
    study = opened(objective, storage)
    run_trials(study, objective, 1)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert study.trials[0].params == study.trials[1].params


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"embedding_dim": 16}, "embedding_dim 8, not 16"),
        ({"loss": "margin"}, "loss 'infonce', not 'margin'"),
        ({"repeats": 2}, "repeats 1, not 2"),
        ({"seed": 1}, "seed 0, not 1"),
    ],
)
def test_a_study_of_another_objective_is_refused(
    tiny_objective: Objectives, changes: dict[str, object], named: str
) -> None:
    storage = InMemoryStorage()
    opened(tiny_objective(), storage)
    with pytest.raises(ValueError, match=f"`study_name` 'tiny' is a study with {named}"):
        opened(tiny_objective(**changes), storage)


def test_a_study_of_another_direction_or_package_is_refused(tiny_objective: Objectives) -> None:
    minimised = optuna.create_study(direction="minimize")
    with pytest.raises(ValueError, match="direction is not 'maximize'"):
        check_study(minimised, tiny_objective())
    odd = optuna.create_study(direction="maximize")
    odd.set_user_attr("objective", "foo")
    with pytest.raises(ValueError, match="study of another objective"):
        check_study(odd, tiny_objective())
    foreign = optuna.create_study(direction="maximize")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="study of another objective"):
        check_study(foreign, tiny_objective())
