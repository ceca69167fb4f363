"""A storage behind a server: dead workers are missed as they are at a database."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
import socket
from typing import Any

import optuna
from optuna.storages import get_storage
from optuna.trial import TrialState
import pytest

from cbal_optuna import patience
from cbal_optuna import proxy as proxy_module
from cbal_optuna import storage as storage_module
from cbal_optuna.patience import ServerAwayError
from cbal_optuna.patience import StorageUnavailableError
from cbal_optuna.patient_storage import PatientStorage
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

Lose = Callable[..., None]


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
    assert "cbal:alive" not in study.trials[0].system_attrs


def test_optuna_gives_the_signs_of_life_by_itself(url: str) -> None:
    _, study = opened(url)
    study.optimize(lambda trial: 1.0, 1)
    assert "cbal:alive" in study.trials[0].system_attrs


def test_the_trial_of_a_worker_known_to_be_dead_is_retried(url: str) -> None:
    _, study = opened(url)
    ask(study)
    retry(study, study.trials[0], "its worker was killed")
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


# A server that goes away after it has done what it was asked for, before it says so.


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Lose:
    """Loses the next answer to one kind of request, after which something else may happen."""
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.0)

    def lose(
        storage: StorageProxy, name: str, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        answer = getattr(storage._stub, name)

        def lost(request: Any) -> None:
            answer(request)
            setattr(storage._stub, name, answer)
            meanwhile()
            raise ServerAwayError("connection reset")

        setattr(storage._stub, name, lost)

    return lose


lost_answer = pytest.mark.filterwarnings("ignore:`storage` grpc.* does not answer")


@lost_answer
def test_a_new_trial_is_made_once(url: str, lose: Lose) -> None:
    storage, study = opened(url)
    lose(storage, "CreateNewTrial")
    assert ask(study).number == 0
    lose(storage, "CreateNewTrial")
    study.enqueue_trial({"x": 0.5})
    assert [t.state for t in study.trials] == [TrialState.RUNNING, TrialState.WAITING]


@lost_answer
def test_a_queued_trial_is_made_once_even_if_another_has_taken_it(url: str, lose: Lose) -> None:
    (storage, study), (_, others) = opened(url), opened(url)
    lose(storage, "CreateNewTrial", lambda: ask(others))
    study.enqueue_trial({"x": 0.5})
    assert [t.state for t in study.trials] == [TrialState.RUNNING]


@lost_answer
def test_who_has_taken_a_queued_trial_keeps_it(url: str, lose: Lose) -> None:
    storage, study = opened(url)
    study.enqueue_trial({"x": 0.5})
    lose(storage, "SetTrialStateValues")
    assert ask(study).number == 0


@lost_answer
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
def test_a_trial_ends_once(url: str, lose: Lose, state: TrialState) -> None:
    storage, study = opened(url)
    trial = ask(study)
    lose(storage, "SetTrialStateValues")
    study.tell(trial, 1.0 if state == TrialState.COMPLETE else None, state)
    assert study.trials[0].state == state


@lost_answer
def test_a_silent_trial_is_retried_once(url: str, lose: Lose, clock: Clock) -> None:
    storage, study = opened(url)
    ask(study)
    retry_stale_trials(study)
    clock.now = 91.0
    lose(storage, "SetTrialStateValues")
    retry_stale_trials(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


@lost_answer
def test_a_trial_that_was_put_back_and_taken_by_another_is_left_to_it(
    url: str, lose: Lose
) -> None:
    (storage, study), (_, others) = opened(url), opened(url)
    trial = ask(study)
    lose(storage, "SetTrialStateValues", lambda: ask(others))
    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    assert [t.state for t in study.trials] == [TrialState.RUNNING]


@lost_answer
def test_after_the_server_was_away_nobody_is_given_up(url: str, lose: Lose, clock: Clock) -> None:
    (storage, study), (own, others) = opened(url), opened(url)
    trial = ask(study)
    storage.record_heartbeat(trial._trial_id)
    retry_stale_trials(others)
    clock.now = 91.0
    lose(own, "GetTrials")
    retry_stale_trials(others)
    assert [t.state for t in study.trials] == [TrialState.RUNNING]


def test_a_sign_of_life_that_cannot_be_given_is_no_error(url: str, lose: Lose) -> None:
    storage, study = opened(url)
    lose(storage, "SetTrialSystemAttribute")
    storage.record_heartbeat(ask(study)._trial_id)


def test_what_the_server_cannot_do_is_one_sentence(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("disk\nfull")

    _, study = opened(url)
    monkeypatch.setattr(PatientStorage, "_create_new_trial", fail)
    with pytest.raises(StorageUnavailableError, match="`storage` grpc.* cannot be used: ") as said:
        ask(study)
    assert "disk full" in str(said.value)


def test_a_server_that_was_never_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "_PROXY_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(
        ValueError, match="grpc://127.0.0.1:9 cannot be used: nobody has answered for 0.1 seconds"
    ) as caught:
        check_storage("grpc://127.0.0.1:9")
    assert "\n" not in str(caught.value)
