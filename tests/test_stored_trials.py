"""Trials of workers that have died, and of those that are only taken for dead."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
import pytest

from cbal_optuna import storage as storage_module
from cbal_optuna.report.words import outcome
from cbal_optuna.storage import open_storage
from cbal_optuna.stored_trials import ask
from cbal_optuna.stored_trials import evaluate
from cbal_optuna.stored_trials import INTERRUPTED
from cbal_optuna.stored_trials import retry
from cbal_optuna.stored_trials import retry_stale_trials
from cbal_optuna.study_history import TRAININGS


def test_a_worker_that_was_killed_before_its_first_sign_of_life_is_missed(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage)
    ask(study)
    retry_stale_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    _let_hearts_stop(storage)
    retry_stale_trials(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_trial_that_plain_optuna_asks_for_is_given_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    storage = open_storage(url)
    study = optuna.create_study(study_name="a", storage=storage)
    plain = optuna.load_study(study_name="a", storage=url)
    trial = plain.ask()
    retry_stale_trials(study)
    _let_hearts_stop(storage)
    retry_stale_trials(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    with pytest.raises(ValueError, match="Cannot tell a FAIL trial"):
        plain.tell(trial, 1.0)


def test_a_trial_that_optuna_runs_in_a_storage_of_this_package_is_not(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage)

    def looked_at(trial: optuna.Trial) -> float:
        retry_stale_trials(study)
        return 1.0

    study.optimize(looked_at, n_trials=1)
    with storage.engine.connect() as connection:
        signs = connection.exec_driver_sql("SELECT COUNT(*) FROM trial_heartbeats").scalar()
    assert (study.trials[0].state, signs) == (TrialState.COMPLETE, 1)


def test_the_trial_of_a_worker_known_to_be_dead_is_retried_a_few_times(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/study.db"))
    ask(study).suggest_float("x", 0, 1)
    for _ in range(10):
        retry(study, study.trials[-1], "its worker was killed")
        if study.trials[-1].state == TrialState.FAIL:
            break
        ask(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 4
    assert len({t.params["x"] for t in study.trials}) == 1
    assert study.trials[0].user_attrs["failure"] == "its worker was killed"


def test_a_retry_does_not_say_how_the_trial_before_it_ended(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/study.db"))
    trial = ask(study)
    for name, value in {TRAININGS: 1, INTERRUPTED: "Interrupted: SIGTERM", "seed": 7}.items():
        trial.set_user_attr(name, value)
    retry(study, study.trials[0], "its worker was killed")
    study.tell(ask(study), 0.5)
    died, retried = study.trials
    assert (outcome(died), outcome(retried)) == ("interrupted", "completed")
    assert retried.user_attrs == {"seed": 7}


def test_a_killed_workers_trial_is_retried_at_its_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The heartbeat is compared with the database's clock, in whole seconds: one that is long past
    # stands for a worker that died.
    monkeypatch.setattr(storage_module, "HEARTBEAT_SECONDS", 1)
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    assert isinstance(storage, RDBStorage)
    study = optuna.create_study(storage=storage)
    dead = study.ask()
    x = dead.suggest_float("x", 0, 1)
    storage.record_heartbeat(dead._trial_id)
    _let_hearts_stop(storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    failed, retried = study.trials
    assert (failed.state, retried.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert failed.params == retried.params == {"x": x}


@pytest.mark.parametrize("is_done", [True, False])
def test_what_another_has_evaluated_meanwhile_is_not_retried(
    tmp_path: Path, is_done: bool
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage)
    ask(study).suggest_float("x", 0, 1)
    study.enqueue_trial(study.trials[0].params)
    again = ask(study)
    again.suggest_float("x", 0, 1)
    if is_done:
        study.tell(again, 1.0)
    retry_stale_trials(study)
    _let_hearts_stop(storage)
    storage.record_heartbeat(again._trial_id)
    retry_stale_trials(study)
    ended = TrialState.COMPLETE if is_done else TrialState.RUNNING
    assert [t.state for t in study.trials] == [TrialState.FAIL, ended]


@pytest.mark.parametrize(
    ("seed", "queued_seed", "is_retried"),
    [(7, None, False), (None, 7, False), (7, 7, False), (7, 8, True)],
)
def test_what_is_queued_already_is_not_retried_unless_its_seed_is_another(
    tmp_path: Path, seed: int | None, queued_seed: int | None, is_retried: bool
) -> None:
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/study.db"))
    # Where settings are searched, a trial says its seed when it begins.
    trial = ask(study)
    trial.suggest_float("x", 0, 1)
    if seed is not None:
        trial.set_user_attr("seed", seed)
    own = None if queued_seed is None else {"seed": queued_seed}
    study.enqueue_trial(trial.params, user_attrs=own)
    retry(study, study.trials[0], "its worker was killed")
    assert len(study.trials) == 2 + is_retried


def test_of_two_that_died_on_the_way_to_their_points_both_are_retried(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage)
    for name in ("first", "second"):
        # They differ in nothing yet.
        trial = ask(study)
        trial.suggest_float("x", 0.5, 0.5)
        trial.set_user_attr("name", name)
    retry_stale_trials(study)
    _let_hearts_stop(storage)
    retry_stale_trials(study)
    waiting = [t.user_attrs["name"] for t in study.trials if t.state == TrialState.WAITING]
    assert sorted(waiting) == ["first", "second"]


def test_an_interrupted_trial_fails_and_the_interruption_goes_on(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/study.db"))

    def interrupted(trial: optuna.Trial) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(study, ask(study), interrupted)
    assert study.trials[0].state == TrialState.FAIL


def _let_hearts_stop(storage: RDBStorage) -> None:
    """As if every trial that is running had given its last sign of life an hour ago."""
    with storage.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')"
        )
