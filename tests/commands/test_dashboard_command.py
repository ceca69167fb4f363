from __future__ import annotations

from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
from typing import Any
from urllib.request import urlopen

import optuna
from optuna.storages import RDBStorage
import pytest

from cbal_optuna.artifacts import write_artifacts
from cbal_optuna.commands import dashboard
from cbal_optuna.commands import main
from cbal_optuna.storage import open_storage


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/a.db"
    study = optuna.create_study(study_name="a", storage=open_storage(url))
    study.optimize(lambda trial: trial.suggest_float("balance", 0.1, 10), 2)
    return url


def test_it_serves_the_note_until_ctrl_c(url: str) -> None:
    pytest.importorskip("optuna_dashboard")
    command = [sys.executable, "-m", "cbal_optuna", "dashboard", url, "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background process may have been told to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        process.stdout.readline()
        with urlopen(f"{found[0]}api/studies/1?after=0") as answer:
            assert "2 trials: 2 completed." in answer.read().decode()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (0, "")


def test_it_serves_artifacts_that_are_there(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna_dashboard = pytest.importorskip("optuna_dashboard")
    stores: list[Any] = []

    def wsgi(storage: RDBStorage, store: Any) -> None:
        stores.append(store)
        raise ValueError("enough")

    monkeypatch.setattr(optuna_dashboard, "wsgi", wsgi)
    for _ in range(2):
        with pytest.raises(SystemExit):
            main(["dashboard", url])
        attributes = write_artifacts(tmp_path / "a_artifacts", {"b": b"c"})
    (identifier,) = (name.removeprefix("artifacts:") for name in attributes)
    assert stores[0] is None
    with stores[1].open_reader(identifier) as file:
        assert file.read() == b"c"


def test_a_port_that_is_taken_is_one_sentence(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna_dashboard")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as exit:
            main(["dashboard", url, "--port", number])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert f"`--port` {number} cannot be listened on: Address already in use." in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("host", ["日本..x", "a" * 64])
def test_a_host_that_is_no_name_is_one_sentence(
    url: str, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna_dashboard")
    with pytest.raises(SystemExit) as exit:
        main(["dashboard", url, "--host", host])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert f"`--host` {host} and `--port` 8080 cannot be listened on: " in error
    assert len(error.splitlines()) == 1


def test_without_optuna_dashboard_the_extra_is_named(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit:
        main(["dashboard", url])
    assert exit.value.code == 2
    assert 'pip install ".[dashboard]"' in capsys.readouterr().err
