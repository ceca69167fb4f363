from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys

import optuna
from optuna.storages import RDBStorage
import pytest

from cbal_optuna.commands import main
from cbal_optuna.commands import serve_storage
from cbal_optuna.storage import open_storage


pytest.importorskip("grpc")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What a server would have been started with."""
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(
        serve_storage, "serve", lambda storage, host, port: calls.append((host, port))
    )
    monkeypatch.setattr(serve_storage, "Interruption", lambda: signal_free)
    return calls


class signal_free:
    @staticmethod
    def ignore() -> None: ...


def test_it_serves_a_new_database_until_it_is_told_to_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "cbal_optuna", "serve-storage", url, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"grpc://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        assert "Only this machine reaches it" in process.stdout.readline()
        study = optuna.create_study(study_name="a", storage=open_storage(found[0]))
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 2)
        params = [t.params for t in study.trials]
        # As when a terminal and a supervisor both end it.
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (0, "")
    stored = optuna.load_study(study_name="a", storage=url)
    assert [t.params for t in stored.trials] == params


def test_passwords_are_masked(
    run: Run,
    served: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve_storage, "check_storage", lambda url: False)
    monkeypatch.setattr(
        serve_storage, "open_storage", lambda url: RDBStorage(f"sqlite:///{tmp_path}/a.db")
    )
    status, out, errors = run("serve-storage", "postgresql://me:secret@host/x", "--port", "0")
    assert status == 0 and "secret" not in out + errors
    assert "postgresql+psycopg2://me:***@host/x: grpc://127.0.0.1:" in out


def test_who_listens_to_others_is_warned(
    run: Run, served: list[tuple[str, int]], tmp_path: Path
) -> None:
    status, out, errors = run(
        "serve-storage", f"sqlite:///{tmp_path}/a.db", "--host", "0.0.0.0", "--port", "0"
    )
    assert status == 0 and "Only this machine" not in out
    assert errors == "Who can reach 0.0.0.0 can change and delete the studies.\n"
    ((host, port),) = served
    assert host == "0.0.0.0" and port > 0


def test_a_port_that_is_taken_is_one_sentence(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        status, _, errors = run("serve-storage", f"sqlite:///{tmp_path}/a.db", "--port", number)
    assert status == 2 and len(errors.splitlines()) == 1
    assert f"`--port` {number} cannot be listened on: Address already in use." in errors


def test_a_host_that_is_no_name_is_one_sentence(run: Run, tmp_path: Path) -> None:
    status, _, errors = run("serve-storage", f"sqlite:///{tmp_path}/a.db", "--host", "a" * 64)
    assert status == 2 and len(errors.splitlines()) == 1
    assert "cannot be listened on: " in errors


def test_without_grpc_the_extra_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_storage, "find_spec", lambda name: None)
    status, _, errors = run("serve-storage", f"sqlite:///{tmp_path}/a.db")
    assert status == 2 and 'pip install ".[grpc]"' in errors
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_used_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["serve-storage", "sqlite:////no/such/folder/x.db"])
    assert exit.value.code == 2
    assert "/no/such/folder is no folder" in capsys.readouterr().err
