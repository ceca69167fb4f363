"""The sampler on every storage that Optuna tests its own samplers with."""

from __future__ import annotations

from collections.abc import Iterator
import math

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler


pytest.importorskip("fakeredis")
pytest.importorskip("grpc")
testing = pytest.importorskip("optuna.testing.storages")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(params=testing.STORAGE_MODES, scope="module")
def storage(request: pytest.FixtureRequest) -> Iterator[BaseStorage]:
    with testing.StorageSupplier(request.param) as storage:
        yield storage


def objective(trial: Trial) -> float:
    balance = trial.suggest_float("balance", 0.1, 10.0, log=True)
    margin = trial.suggest_float("margin", 0.0, 1.0, step=0.05)
    batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
    loss = trial.suggest_categorical("loss", ["infonce", "margin", None])
    if trial.number == 3:
        return float("nan")
    if trial.number == 7:
        raise optuna.TrialPruned
    value = math.log(balance / 3.0) ** 2 + (margin - 0.3) ** 2 + (loss is not None)
    return math.inf if balance > 9.0 else value + abs(math.log2(batch_size / 64))


def new_study(storage: BaseStorage) -> Study:
    return optuna.create_study(storage=storage, sampler=CoordinateDescentSampler(seed=0))


def test_stopping_and_going_on_is_the_same_as_one_go_in_memory(storage: BaseStorage) -> None:
    expected = new_study(optuna.storages.InMemoryStorage())
    expected.optimize(objective, 12)
    name = new_study(storage).study_name
    for _ in range(4):
        study = optuna.load_study(
            study_name=name, storage=storage, sampler=CoordinateDescentSampler(seed=0)
        )
        study.optimize(objective, 3)

    assert [t.params for t in study.trials] == [t.params for t in expected.trials]
    assert [t.state for t in study.trials] == [t.state for t in expected.trials]


def test_threads_and_batches_evaluate_no_point_twice_and_lose_none(storage: BaseStorage) -> None:
    study = new_study(storage)
    batch = [study.ask() for _ in range(4)]
    study.optimize(objective, 12, n_jobs=4)
    for trial in batch:
        study.tell(trial, objective(trial))
    points = [tuple(t.params.items()) for t in study.trials if t.state != TrialState.FAIL]

    assert [t.number for t in study.trials] == list(range(16))
    assert all(t.state.is_finished() for t in study.trials)
    assert len(set(points)) == len(points)


def test_nothing_is_remembered_of_a_study_that_was_deleted(storage: BaseStorage) -> None:
    sampler, params = CoordinateDescentSampler(seed=0), []
    for n_trials in (8, 4):
        study = optuna.create_study(study_name="again", storage=storage, sampler=sampler)
        study.optimize(objective, n_trials)
        params.append([trial.params for trial in study.trials])
        optuna.delete_study(study_name="again", storage=storage)

    assert params[0][:4] == params[1]
