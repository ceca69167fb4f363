"""A password in the URL of a storage, on its way through everything that is said and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sqlite3
from typing import Any

import optuna
import pytest
from sqlalchemy import make_url
from sqlalchemy import URL
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from cbal_optuna import commands
from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS
from cbal_optuna.commands import dashboard
from cbal_optuna.commands import serve_storage
from cbal_optuna.passwords import masked
from cbal_optuna.passwords import without_passwords
from cbal_optuna.patience import StorageUnavailableError
from cbal_optuna.storage import open_storage


PASSWORD = "correct-horse-battery"
QUICK = ["--backbone", "test_resnet", "--head-only", "--samples", "64", "--repeats", "1"]
QUICK += ["--batch-sizes", "16"]


class Guarded(SQLiteDialect_pysqlite):
    """Sqlite with a password, which nobody asks for."""

    supports_statement_cache = True

    def create_connect_args(self, url: URL) -> Any:
        return super().create_connect_args(URL.create("sqlite", database=url.database))


registry.register("sqlite.guarded", __name__, "Guarded")
registry.impls["sqlite.guarded"] = lambda: Guarded


class Server:
    """One that everybody has left."""

    server_port = 1

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def serve_forever(self) -> None:
        pass


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database that lets everybody in, with a password all the same."""
    if request.param == "sqlite":
        return f"sqlite+guarded://me:{PASSWORD}@/{tmp_path}/digits.db?password={PASSWORD}"
    found = make_url(request.getfixturevalue("postgresql_schema"))
    return found.set(password=PASSWORD).render_as_string(hide_password=False)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Calls a script in an empty folder: its exit status and all that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dashboard, "server_of", lambda *arguments: Server())
    monkeypatch.setattr(serve_storage, "serve", lambda *arguments: None)

    def run(script: Callable[..., Any], *arguments: Any) -> tuple[int, str]:
        with pytest.raises(SystemExit) as exit:
            script(*arguments)
        return int(exit.value.code or 0), "".join(capsys.readouterr())

    return run


def attributes(url: str) -> str:
    """Those of all studies and trials, as they are stored."""
    storage = open_storage(url)
    ids = [study._study_id for study in storage.get_all_studies()]
    of_studies = [
        (storage.get_study_user_attrs(i), storage.get_study_system_attrs(i)) for i in ids
    ]
    return repr([of_studies, [storage.get_all_trials(i) for i in ids]])


def test_no_command_says_or_keeps_a_password(
    run: Callable[..., tuple[int, str]], url: str, tmp_path: Path
) -> None:
    for package in ("optuna_dashboard", "grpc", "google.protobuf"):
        pytest.importorskip(package)
    options = ["--n-trials", "2", "--confirm", "1", "--storage", url, "--export", "model"]
    said = [run(main, SCRIPTS["digits"], [*QUICK, *options])]
    for name, *more in [
        ("summary",),
        ("summary", "--json"),
        ("report", "-o", "again.html"),
        ("export", "-o", "exported"),
        ("dashboard",),
        ("resume", "--n-trials", "3"),
        ("serve-storage", "--port", "0"),
    ]:
        said.append(run(commands.main, [name, url, *more]))
    assert [status for status, _ in said] == [0] * len(said), said
    said.append(run(commands.main, ["compare", url]))
    said.append(run(commands.main, ["summary", url, "--study", "none"]))
    said.append(run(commands.main, ["resume", url, "--storage", url]))
    said.append(run(commands.main, ["summary", "sqlite:///none.db", url]))
    assert not [text for _, text in said if PASSWORD in text]
    assert PASSWORD not in attributes(url)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 20
    assert not [path for path in kept if PASSWORD.encode() in path.read_bytes()]


def test_a_database_that_breaks_says_no_password(tmp_path: Path) -> None:
    url = f"sqlite+guarded://me:{PASSWORD}@/{tmp_path}/a.db"
    storage = open_storage(url)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("DROP TABLE studies")
    with pytest.raises(StorageUnavailableError, match="a.db cannot be used") as caught:
        optuna.get_all_study_names(storage)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:////tmp/a.db holds no studies", "sqlite:////tmp/a.db holds no studies"),
        ("no such: postgresql://me:a b@c@host/x, y", "no such: postgresql://***"),
        ("mysql://me:p?w@host/x and more", "mysql://***"),
        ("mysql://me@host/x?passwd=a b", "mysql://me@host/x?***"),
        ("mysql://me:***@host/x?*** is away", "mysql://me:***@host/x?*** is away"),
    ],
)
def test_text_with_urls_is_shown_without_passwords(text: str, shown: str) -> None:
    found = without_passwords(text)
    assert found == shown


def test_what_drivers_repeat_is_hidden() -> None:
    url = make_url("postgresql://me:1234@host/x?sslpassword=abcd&port=99")
    said = without_passwords("wrong password 1234 or abcd, port 99, code 12345", url)
    assert said == "wrong password *** or ***, port 99, code 12345"
    assert masked(url) == "postgresql://me:***@host/x?***"
