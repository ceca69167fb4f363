"""A database server or a proxy that is stopped, for a while or for good, and what may only be
read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any
import warnings

import optuna
from optuna.trial import TrialState
import pytest
from sqlalchemy import create_engine
from sqlalchemy import make_url

from cbal_optuna import patience
from cbal_optuna.commands import main
from cbal_optuna.interruption import Interrupted
from cbal_optuna.patience import StorageUnavailableError
from cbal_optuna.storage import open_storage
from cbal_optuna.study import run_trials


PACKAGES = {"postgresql": "psycopg2", "proxy": "grpc"}


@pytest.fixture(scope="module", params=PACKAGES)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One to be stopped."""
    pytest.importorskip(PACKAGES[request.param])
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        start = getattr(import_module("database_servers"), f"running_{request.param}")
        try:
            server = stack.enter_context(start())
        except FileNotFoundError as error:
            pytest.skip(str(error))
        yield server


on_postgresql = pytest.mark.parametrize("server", ["postgresql"], indirect=True)


def test_a_server_that_comes_back_costs_no_trial(server: Any) -> None:
    study = optuna.create_study(storage=open_storage(server.url), study_name="restarted")
    downs = {1: "immediate", 2: "fast"}

    def stop_before(trial: optuna.Trial) -> float:
        if mode := downs.pop(trial.number, None):
            server.stop(mode)
            starter.submit(server.start)
        # The server has not seen the trial begin.
        x = trial.suggest_float("x", 0, 1)
        trial.report(x, 0)
        return x

    with warnings.catch_warnings(), ThreadPoolExecutor(1) as starter:
        warnings.filterwarnings("ignore", ".*it is waited for, 300 seconds at most")
        run_trials(study, stop_before, 4)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4
    assert not downs


def test_a_server_that_stays_away_is_waited_for_and_named(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.05)
    study = optuna.create_study(storage=open_storage(server.url), study_name="away")

    def stop(trial: optuna.Trial) -> float:
        server.stop()
        return 0.0

    try:
        with (
            pytest.warns(UserWarning, match="does not answer .*; it is waited for"),
            pytest.raises(StorageUnavailableError, match="has not answered for 0 seconds") as said,
        ):
            run_trials(study, stop, 1)
    finally:
        server.start()
    assert "\n" not in str(said.value)
    # It is back, and so is the study.
    again = optuna.load_study(storage=open_storage(server.url), study_name="away")
    assert [t.state for t in again.trials] == [TrialState.RUNNING]


@on_postgresql
def test_a_signal_ends_the_waiting(server: Any) -> None:
    def interrupted() -> None:
        raise Interrupted(2)

    storage = open_storage(server.url, while_waiting=interrupted)
    study = optuna.create_study(storage=storage, study_name="interrupted")
    server.stop()
    try:
        with pytest.warns(UserWarning), pytest.raises(Interrupted):
            study.ask()
    finally:
        server.start()


@on_postgresql
def test_after_the_server_was_away_nobody_is_given_up(server: Any) -> None:
    storage = open_storage(server.url)
    study = optuna.create_study(storage=storage, study_name="silent")
    study.ask()
    storage.record_heartbeat(study.trials[0]._trial_id)
    let_hearts_stop(server.url)
    assert storage._get_stale_trial_ids(study._study_id) != []
    server.stop()
    # It cannot be given, which is no reason to end.
    storage.record_heartbeat(1)
    server.start()
    assert storage._get_stale_trial_ids(study._study_id) == []


@on_postgresql
def test_who_may_only_read_can_look_at_studies(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = optuna.create_study(
        storage=open_storage(server.url), study_name="read", direction="maximize"
    )
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 3)
    with create_engine(server.url).begin() as connection:
        connection.exec_driver_sql("CREATE ROLE reader LOGIN")
        connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    url = make_url(server.url).set(username="reader").render_as_string(hide_password=False)
    with pytest.raises(SystemExit) as exit:
        main(["summary", url, "--study", "read"])
    assert not exit.value.code
    assert "3 trials" in capsys.readouterr().out


def let_hearts_stop(url: str) -> None:
    """As if all last signs of life were an hour old, or the clock had jumped."""
    with create_engine(url).begin() as connection:
        connection.exec_driver_sql(
            "UPDATE trial_heartbeats SET heartbeat = heartbeat - INTERVAL '1 hour'"
        )
