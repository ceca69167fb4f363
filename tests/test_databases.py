"""Studies on real database servers, and joined by several commands; where there is no server, the
test is skipped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import socket
import subprocess
import sys

import optuna
from optuna.storages import get_storage
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import open_storage
from cbal_optuna.stored_trials import retry_stale_trials


pytestmark = pytest.mark.filterwarnings("ignore")

STUDIES = Path(__file__).parents[1] / "studies"
PATIENCE_SECONDS = 240
N_WORKERS, N_EACH = 6, 4


@pytest.fixture(params=["postgresql_schema", "mariadb_database"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def objective(trial: Trial) -> float:
    balance = trial.suggest_float("balance", 0.1, 10.0, log=True)
    margin = trial.suggest_float("margin", 0.0, 1.0)
    for i in range(5):
        trial.set_user_attr(f"measure {i}", [balance, "Ω" * 100])
    return (balance - 2.0) ** 2 + margin


def optimized(url: str, n_trials: int, seed: int = 0) -> optuna.Study:
    sampler = CoordinateDescentSampler(seed=seed, line_search="parabolic")
    study = optuna.create_study(
        study_name="a", storage=open_storage(url), sampler=sampler, load_if_exists=True
    )
    study.optimize(objective, n_trials)
    return study


def test_a_study_equals_one_in_memory(url: str) -> None:
    assert not check_storage(url)
    stored = optimized(url, 12)
    assert check_storage(url)
    sampler = CoordinateDescentSampler(seed=0, line_search="parabolic")
    kept = optuna.create_study(study_name="a", sampler=sampler)
    kept.optimize(objective, 12)
    read = optuna.load_study(study_name="a", storage=open_storage(url))
    assert [t.params for t in read.trials] == [t.params for t in kept.trials]
    assert [t.values for t in read.trials] == [t.values for t in stored.trials]
    assert [t.user_attrs for t in read.trials] == [t.user_attrs for t in kept.trials]


def test_workers_evaluate_no_point_twice_and_lose_none(url: str) -> None:
    optuna.create_study(study_name="a", storage=open_storage(url))
    with ThreadPoolExecutor(N_WORKERS) as pool:
        list(pool.map(lambda _: optimized(url, N_EACH), range(N_WORKERS)))
    trials = optuna.load_study(study_name="a", storage=open_storage(url)).trials
    assert [t.number for t in trials] == list(range(N_WORKERS * N_EACH))
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert len({tuple(t.params.values()) for t in trials}) == len(trials)


def test_waiting_trials_are_taken_once(url: str) -> None:
    study = optuna.create_study(study_name="a", storage=open_storage(url))
    for i in range(N_WORKERS * N_EACH):
        study.enqueue_trial({"balance": 1.0 + i / 100, "margin": 0.5})
    with ThreadPoolExecutor(N_WORKERS) as pool:
        list(pool.map(lambda _: optimized(url, N_EACH), range(N_WORKERS)))
    assert sorted(t.params["balance"] for t in study.trials) == [
        1.0 + i / 100 for i in range(N_WORKERS * N_EACH)
    ]
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_workers_write_the_same_attribute_of_the_study_at_once(url: str) -> None:
    """As they do with the note of the dashboard."""
    optuna.create_study(study_name="a", storage=open_storage(url))

    def write(worker: int) -> None:
        study = optuna.load_study(study_name="a", storage=open_storage(url))
        for i in range(20):
            study.set_user_attr("note", f"{worker} {i}")

    with ThreadPoolExecutor(N_WORKERS) as pool:
        list(pool.map(write, range(N_WORKERS)))
    study = optuna.load_study(study_name="a", storage=open_storage(url))
    assert study.user_attrs["note"].endswith(" 19")


def test_a_dead_workers_trial_is_retried(url: str) -> None:
    storage = open_storage(url)
    study = optuna.create_study(study_name="a", storage=storage)
    objective(study.ask())
    retry_stale_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    with storage.engine.begin() as connection:  # type: ignore[union-attr]
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
    retry_stale_trials(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_note_of_any_length_is_stored(url: str) -> None:
    study = optimized(url, 3)
    for i in range(40):
        study.set_user_attr(f"measure {i}", "Ω" * 500)
    update_dashboard(study)
    assert len(study.user_attrs) == 40


def test_two_commands_at_once_run_as_many_trials_as_wanted(
    postgresql_schema: str, tmp_path: Path
) -> None:
    """One at the database, the other at its proxy."""
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server

    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    server = make_server(get_storage(open_storage(postgresql_schema)), "127.0.0.1", number)
    server.start()
    options = "--head-only --backbone test_resnet --samples 8000 --repeats 1 --confirm 0"
    command = [sys.executable, str(STUDIES / "digits.py"), *options.split(), "--n-trials", "9"]
    processes = [
        subprocess.Popen(
            [*command, "--workers", n_workers, "--storage", url, "--report", f"{i}.html"],
            cwd=tmp_path,
            env={**os.environ, "CBAL_CACHE": str(tmp_path / "cache")},
        )
        for i, (url, n_workers) in enumerate(
            [(postgresql_schema, "1"), (f"grpc://127.0.0.1:{number}", "1")]
        )
    ]
    try:
        assert [process.wait(PATIENCE_SECONDS) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        server.stop(None).wait()
    trials = optuna.load_study(study_name="digits", storage=open_storage(postgresql_schema)).trials
    assert sum(t.state == TrialState.COMPLETE for t in trials) == 9
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.WAITING, TrialState.FAIL}
    assert (tmp_path / "0.html").exists() and (tmp_path / "1.html").exists()
