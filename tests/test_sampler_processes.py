"""Fresh processes, one after the other and all at once, on one storage.

This file is also the program that they run: ``test_sampler_processes.py STORAGE SEED N_TRIALS``.
"""

from __future__ import annotations

from collections import Counter
import os
from pathlib import Path
import sqlite3
import subprocess
import sys
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.storages import JournalStorage
from optuna.storages import RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler


class FastConnection(sqlite3.Connection):
    """Does not wait until the disk has written: nothing here survives a power cut."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous = OFF")


def open_storage(url: str) -> BaseStorage:
    if url.startswith("sqlite"):
        arguments = {"timeout": 60, "factory": FastConnection}
        return RDBStorage(url, engine_kwargs={"connect_args": arguments})
    return JournalStorage(JournalFileBackend(url))


def objective(trial: Trial) -> float:
    """Every kind of parameter; some trials fail, some are pruned, some points are walls."""
    balance = trial.suggest_float("balance", 0.1, 10.0, log=True)
    margin = trial.suggest_float("margin", 0.0, 1.0, step=0.05)
    batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
    loss = trial.suggest_categorical("loss", ["infonce", "margin", "triplet"])
    if loss == "triplet":
        trial.suggest_int("n_hard", 1, 1000, log=True)
    if trial.number in (5, 17):
        return float("nan")
    if trial.number in (11, 23):
        raise optuna.TrialPruned
    if balance > 9.0:
        trial.set_constraint("diverged", 1.0)
    return (balance - 2.0) ** 2 + (margin - 0.3) ** 2 + batch_size / 256 + len(loss) / 10


def run(url: str, seed: int, n_trials: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(
        study_name="processes",
        storage=open_storage(url),
        sampler=CoordinateDescentSampler(seed=seed, warn_independent_sampling=False),
    )
    study.optimize(objective, n_trials)


def start(url: str, n_trials: int, hash_seed: str | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTHONHASHSEED", None)
    if hash_seed is not None:
        environment["PYTHONHASHSEED"] = hash_seed
    return subprocess.Popen([sys.executable, __file__, url, "0", str(n_trials)], env=environment)


def finished(url: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name="processes", storage=open_storage(url)).trials


@pytest.fixture(params=["sqlite", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": f"{tmp_path}/study.log"}[
        request.param
    ]
    optuna.create_study(study_name="processes", storage=open_storage(url))
    return url


def in_one_go(n_trials: int) -> list[FrozenTrial]:
    study = optuna.create_study(
        study_name="processes",
        sampler=CoordinateDescentSampler(seed=0, warn_independent_sampling=False),
    )
    study.optimize(objective, n_trials)
    return study.trials


def test_six_processes_of_ten_trials_equal_sixty_trials_in_one_go(url: str) -> None:
    for i in range(6):
        assert start(url, 10, hash_seed=str(i)).wait() == 0
    expected = in_one_go(60)

    assert [t.params for t in finished(url)] == [t.params for t in expected]
    assert [t.state for t in finished(url)] == [t.state for t in expected]


def test_eight_processes_evaluate_no_point_twice_and_lose_none(url: str) -> None:
    workers = [start(url, 10) for _ in range(8)]
    assert [worker.wait() for worker in workers] == [0] * 8
    trials = finished(url)
    settings = Counter(
        tuple(sorted(t.params.items())) for t in trials if t.state != TrialState.FAIL
    )

    assert len(trials) == 80
    assert all(t.state.is_finished() for t in trials)
    assert set(settings.values()) == {1}
    values = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    assert min(values) < 0.9


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
