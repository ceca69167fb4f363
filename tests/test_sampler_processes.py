"""Fresh processes on one storage: one after the other, all at once, and killed.

This file is also the program that they run: ``test_sampler_processes.py work URL LINE_SEARCH
N_TRIALS [EVENT ...]``, or, for the server before a storage, ``serve BACKEND PORT``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import ExitStack
import os
from pathlib import Path
import signal
import socket
import sqlite3
import subprocess
import sys
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.storages import get_storage
from optuna.storages import GrpcStorageProxy
from optuna.storages import InMemoryStorage
from optuna.storages import JournalStorage
from optuna.storages import RDBStorage
from optuna.storages import run_grpc_proxy_server
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.feasibility import record_feasibility
from cbal_optuna.stored_trials import retry_callback


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

# Much longer than any of this takes on a machine that is busy with other things.
PATIENCE_SECONDS = 240
STUDY = "processes"
# All but the one that later trials only have.
AXES = ("balance", "margin", "batch_size", "loss")
TROUBLES = ("5:failing", "11:pruned", "17:failing", "23:pruned")


# What the processes do


class FastConnection(sqlite3.Connection):
    """Does not wait until the disk has written: nothing here survives a power cut."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous = OFF")


def open_storage(url: str) -> BaseStorage:
    if url.startswith("grpc:"):
        proxy = GrpcStorageProxy(host="127.0.0.1", port=int(url.rpartition(":")[2]))
        proxy.wait_server_ready(timeout=PATIENCE_SECONDS)
        return proxy
    if "://" not in url:
        return JournalStorage(JournalFileBackend(url))
    options: dict[str, Any] = {}
    if url.startswith("heartbeat+"):
        options = {"heartbeat_interval": PATIENCE_SECONDS, **retry_callback()}
    if "sqlite:" in url:
        arguments = {"timeout": PATIENCE_SECONDS, "factory": FastConnection}
        options["engine_kwargs"] = {"connect_args": arguments}
    return RDBStorage(url.removeprefix("heartbeat+"), **options)


def new_sampler(line_search: str = "default") -> CoordinateDescentSampler:
    chosen = {} if line_search == "default" else {"line_search": line_search}
    return CoordinateDescentSampler(seed=0, warn_independent_sampling=False, **chosen)


def objective(trial: Trial) -> float:
    """Every kind of parameter; some points are walls."""
    balance = trial.suggest_float("balance", 0.1, 10.0, log=True)
    margin = trial.suggest_float("margin", 0.0, 1.0, step=0.05)
    batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
    loss = trial.suggest_categorical("loss", ["infonce", "margin", "triplet"])
    if trial.number >= 20:
        trial.suggest_int("n_hard", 1, 1000, log=True)
    record_feasibility(trial, "diverged", feasible=balance <= 9.0)
    return (balance - 2.0) ** 2 + (margin - 0.3) ** 2 + batch_size / 256 + len(loss) / 10


def eventful(storage: BaseStorage, *events: str) -> Callable[[Trial], float]:
    """The objective, but for some trials. Each event is ``NUMBER:failing``, ``NUMBER:pruned``, or
    the moment of a trial at which its process kills itself."""
    moments = dict(event.split(":") for event in events)

    def die_if(number: int, trial_id: int, moment: str) -> None:
        if moments.get(str(number)) == moment:
            if isinstance(storage, RDBStorage):
                # Else a thread gives this sign of life, and may be too late.
                storage.record_heartbeat(trial_id)
            os.kill(os.getpid(), signal.SIGKILL)

    def write_and_die(trial_id: int, key: str, value: Any) -> None:
        write(trial_id, key, value)
        die_if(storage.get_trial(trial_id).number, trial_id, "claiming")

    def function(trial: Trial) -> float:
        die_if(trial.number, trial._trial_id, "starting")
        trial.suggest_float("balance", 0.1, 10.0, log=True)
        die_if(trial.number, trial._trial_id, "suggesting")
        value = objective(trial)
        die_if(trial.number, trial._trial_id, "ending")
        if moments.get(str(trial.number)) == "pruned":
            raise optuna.TrialPruned
        return float("nan") if moments.get(str(trial.number)) == "failing" else value

    write = storage.set_trial_system_attr
    if "claiming" in moments.values():
        storage.set_trial_system_attr = write_and_die  # type: ignore[method-assign]
    return function


def work(url: str, line_search: str, n_trials: str, *events: str) -> None:
    storage = open_storage(url)
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=new_sampler(line_search))
    study.optimize(eventful(storage, *events), int(n_trials))


def serve(backend: str, port: str) -> None:
    run_grpc_proxy_server(get_storage(open_storage(backend)), host="127.0.0.1", port=int(port))


def start(*arguments: object, hash_seed: str | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTHONHASHSEED", None)
    if hash_seed is not None:
        environment["PYTHONHASHSEED"] = hash_seed
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment)


def ends_of(*processes: subprocess.Popen[bytes]) -> list[int]:
    try:
        return [process.wait(PATIENCE_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()


# Where they do it


@contextmanager
def proxy_of(backend: str) -> Iterator[str]:
    """The URL of a gRPC server before a storage."""
    pytest.importorskip("grpc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start("serve", backend, port)
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def new_study(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes a storage of some kind, with the study in it, and gives its URL."""

    def make(kind: str) -> str:
        url = f"{tmp_path}/study.log" if kind == "journal" else f"sqlite:///{tmp_path}/study.db"
        if kind == "postgresql":
            url = request.getfixturevalue("postgresql_schema")
        if kind == "grpc":
            url = stack.enter_context(proxy_of(url))
        optuna.create_study(study_name=STUDY, storage=open_storage(url))
        return url

    with ExitStack() as stack:
        yield make


def study_at(url: str) -> Study:
    return optuna.load_study(study_name=STUDY, storage=open_storage(url), sampler=new_sampler())


def in_one_go(n_trials: int, *events: str) -> list[FrozenTrial]:
    storage = InMemoryStorage()
    study = optuna.create_study(study_name=STUDY, storage=storage, sampler=new_sampler())
    study.optimize(eventful(storage, *events), n_trials)
    return study.trials


def points_of(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    """Where the trials are of what was searched when they began.

    What later trials only have is sampled independently, unless they happen to be where no earlier
    one was, at another loss say: then the loss seems to decide who has it, and it is searched.
    """
    searched = [t.params.keys() & {*AXES, *t.system_attrs.get("cbal:claim", ())} for t in trials]
    return [tuple((n, t.params[n]) for n in sorted(names)) for t, names in zip(trials, searched)]


def let_hearts_stop(url: str) -> None:
    """As if every trial that is running had given its last sign of life long ago."""
    storage = open_storage(url)
    assert isinstance(storage, RDBStorage)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")


# One after the other


@pytest.mark.parametrize(
    "kind, n_processes", [("sqlite", 2), ("postgresql", 2), ("grpc", 2), ("journal", 6)]
)
def test_processes_of_ten_trials_each_equal_as_many_trials_in_one_go(
    kind: str, n_processes: int, new_study: Callable[[str], str]
) -> None:
    url = new_study(kind)
    for i in range(n_processes):
        assert ends_of(start("work", url, "default", 10, *TROUBLES, hash_seed=str(i))) == [0]
    trials, expected = study_at(url).trials, in_one_go(10 * n_processes, *TROUBLES)

    assert [t.params for t in trials] == [t.params for t in expected]
    assert [t.state for t in trials] == [t.state for t in expected]


# All at once


@pytest.mark.parametrize(
    "kind, line_search",
    [
        ("sqlite", "parabolic"),
        ("postgresql", "default"),
        ("grpc", "parabolic"),
        ("journal", "default"),
    ],
)
def test_eight_processes_evaluate_no_point_twice_and_lose_none(
    kind: str, line_search: str, new_study: Callable[[str], str]
) -> None:
    url = new_study(kind)
    workers = [start("work", url, line_search, 20, *TROUBLES) for _ in range(8)]
    assert ends_of(*workers) == [0] * 8
    study = study_at(url)
    failed = [t for t in study.trials if t.state == TrialState.FAIL]
    counts = Counter(points_of([t for t in study.trials if t.state != TrialState.FAIL]))

    assert [t.number for t in study.trials] == list(range(160))
    assert all(t.state.is_finished() for t in study.trials)
    assert [t.number for t in failed] == [5, 17]
    assert [point for point, n in counts.items() if n > 1] == []
    assert study.best_value < 1.0


# Killed


DEATHS = ["0:starting", "0:suggesting", "5:starting", "5:claiming", "5:suggesting", "5:ending"]


@pytest.mark.parametrize(
    "kind, death",
    [("sqlite", death) for death in DEATHS]
    + [("postgresql", death) for death in ("0:suggesting", "5:claiming", "5:ending")],
)
def test_the_trial_of_a_killed_process_is_retried_at_its_point_and_nothing_else_changes(
    kind: str, death: str, new_study: Callable[[str], str]
) -> None:
    url = "heartbeat+" + new_study(kind)
    assert ends_of(start("work", url, "default", 10, death)) == [-signal.SIGKILL]
    let_hearts_stop(url)
    study = study_at(url)
    study.optimize(objective, 6)
    number, trials = int(death[0]), study.trials
    dead = trials.pop(number)

    assert dead.state == TrialState.FAIL
    assert trials[number].system_attrs["failed_trial"] == number
    assert dead.params.items() <= trials[number].params.items()
    assert points_of(trials) == points_of(in_one_go(number + 6))
    assert {t.state for t in trials} == {TrialState.COMPLETE}


# On sqlite, which cannot lock a row, Optuna now and then gives a waiting trial to two processes
# that ask at the same time.
@pytest.mark.parametrize("kind, n_heirs", [("sqlite", 1), ("postgresql", 3)])
def test_when_some_of_many_processes_are_killed_their_trials_are_retried_once(
    kind: str, n_heirs: int, new_study: Callable[[str], str]
) -> None:
    url = "heartbeat+" + new_study(kind)
    deaths = ("4:ending", "9:claiming", "12:suggesting")
    workers = [start("work", url, "default", 6, *deaths) for _ in range(6)]
    assert sorted(ends_of(*workers)) == [-signal.SIGKILL] * 3 + [0] * 3
    let_hearts_stop(url)
    heirs = [start("work", url, "default", 4) for _ in range(n_heirs)]
    assert ends_of(*heirs) == [0] * n_heirs
    trials = study_at(url).trials
    failed = [t for t in trials if t.state == TrialState.FAIL]
    completed = [t for t in trials if t.state == TrialState.COMPLETE]
    retried = [t for t in completed if "failed_trial" in t.system_attrs]
    retried.sort(key=lambda t: t.system_attrs["failed_trial"])

    assert [t.number for t in failed] == [4, 9, 12]
    assert [t.system_attrs["failed_trial"] for t in retried] == [4, 9, 12]
    assert all(old.params.items() <= new.params.items() for old, new in zip(failed, retried))
    assert len(completed) == len(trials) - 3
    assert len(set(points_of(completed))) == len(completed)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "grpc", "journal"])
def test_nobody_waits_for_killed_processes_or_takes_their_points(
    kind: str, new_study: Callable[[str], str]
) -> None:
    url = new_study(kind)
    deaths = ("0:starting", "4:ending", "9:claiming", "12:suggesting")
    workers = [start("work", url, "parabolic", 8, *deaths) for _ in range(6)]
    assert sorted(ends_of(*workers)) == [-signal.SIGKILL] * 4 + [0] * 2
    trials = study_at(url).trials
    running = [t.number for t in trials if t.state == TrialState.RUNNING]
    points = points_of([t for t in trials if set(AXES) <= t.params.keys()])

    assert running == [0, 4, 9, 12]
    assert len(points) == len(trials) - 3
    assert len(set(points)) == len(points)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    {"work": work, "serve": serve}[sys.argv[1]](*sys.argv[2:])
