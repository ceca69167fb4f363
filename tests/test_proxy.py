"""A storage behind a server: dead workers are missed as they are at a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
import socket

import optuna
from optuna.storages import get_storage
from optuna.trial import TrialState
import pytest

from cbal_optuna import proxy as proxy_module
from cbal_optuna import storage as storage_module
from cbal_optuna.proxy import StorageProxy
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import open_storage
from cbal_optuna.stored_trials import ask
from cbal_optuna.stored_trials import retry
from cbal_optuna.stored_trials import retry_stale_trials
from cbal_optuna.stored_trials import was_given_up


pytest.importorskip("grpc")
from optuna.storages._grpc.server import make_server  # noqa: E402


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


class Clock:
    """What ``time.monotonic`` says."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(proxy_module, "time", clock)
    return clock


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    number = free_port()
    backend = open_storage(f"sqlite:///{tmp_path}/study.db")
    server = make_server(get_storage(backend), "127.0.0.1", number)
    server.start()
    try:
        yield f"grpc://127.0.0.1:{number}"
    finally:
        server.stop(None).wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def opened(url: str) -> tuple[StorageProxy, optuna.Study]:
    storage = open_storage(url)
    assert isinstance(storage, StorageProxy)
    return storage, optuna.create_study(study_name="a", storage=storage, load_if_exists=True)


def test_what_is_stored_by_one_is_read_by_another(url: str) -> None:
    assert not check_storage(url)
    _, study = opened(url)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 3)
    assert check_storage(url)
    assert [t.params for t in opened(url)[1].trials] == [t.params for t in study.trials]


def test_a_worker_without_a_sign_of_life_is_missed(url: str, clock: Clock) -> None:
    (_, study), (_, others) = opened(url), opened(url)
    x = ask(study).suggest_float("x", 0, 1)
    for clock.now in (0.0, 60.0, 91.0):
        assert [t.state for t in study.trials] == [TrialState.RUNNING]
        retry_stale_trials(others)
    failed, waiting = study.trials
    assert (failed.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    assert was_given_up(failed) and not was_given_up(waiting)
    assert (waiting.params, waiting.user_attrs) == ({"x": x}, {})


def test_a_worker_that_gives_signs_of_life_is_not(url: str, clock: Clock) -> None:
    (own, study), (_, others) = opened(url), opened(url)
    trial = ask(study)
    for clock.now in (0.0, 80.0, 160.0, 240.0):
        own.record_heartbeat(trial._trial_id)
        retry_stale_trials(others)
    assert [t.state for t in study.trials] == [TrialState.RUNNING]


def test_a_retried_trial_is_given_its_time(url: str, clock: Clock) -> None:
    storage, study = opened(url)
    storage.record_heartbeat(ask(study)._trial_id)
    for clock.now in (0.0, 91.0):
        retry_stale_trials(study)
    ask(study)
    retry_stale_trials(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.RUNNING]


def test_a_sign_of_life_after_the_end_is_no_error(url: str) -> None:
    storage, study = opened(url)
    trial = ask(study)
    study.tell(trial, 1.0)
    storage.record_heartbeat(trial._trial_id)
    assert study.trials[0].system_attrs == {}


def test_optuna_gives_the_signs_of_life_by_itself(url: str) -> None:
    _, study = opened(url)
    study.optimize(lambda trial: 1.0, 1)
    assert "cbal:alive" in study.trials[0].system_attrs


def test_the_trial_of_a_worker_known_to_be_dead_is_retried(url: str) -> None:
    _, study = opened(url)
    ask(study)
    retry(study, study.trials[0], "its worker was killed")
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_server_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    number = free_port()
    backend = get_storage(open_storage(f"sqlite:///{tmp_path}/study.db"))
    server = make_server(backend, "127.0.0.1", number)
    server.start()
    storage, study = opened(f"grpc://127.0.0.1:{number}")
    server.stop(None).wait()
    with closing(storage), pytest.raises(ConnectionError) as caught:
        study.ask()
    assert f"`storage` grpc://127.0.0.1:{number} does not answer: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_was_never_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "_PROXY_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(
        ValueError, match="`storage` grpc://127.0.0.1:9 cannot be used: "
    ) as caught:
        check_storage("grpc://127.0.0.1:9")
    assert "\n" not in str(caught.value)
