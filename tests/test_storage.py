from __future__ import annotations

import gc
from pathlib import Path
import sys

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from cbal_optuna import sqlite_files
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import masked
from cbal_optuna.storage import open_storage
from cbal_optuna.storage import sqlite_file


def test_checking_a_new_sqlite_file_writes_nothing(tmp_path: Path) -> None:
    assert not check_storage(f"sqlite:///{tmp_path}/new.db")
    assert list(tmp_path.iterdir()) == []


def test_a_storage_with_a_study_exists(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    optuna.create_study(storage=open_storage(url), study_name="a")
    assert check_storage(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("garbage", "`storage` is no URL of a database"),
        ("nosuchdb://localhost/x", "`storage` is no URL of a database"),
        ("sqlite:////no/such/folder/x.db", "/no/such/folder is no folder"),
        ("postgresql+nodriver://me:secret@localhost/x", "`storage` is no URL"),
        ("postgresql://me:se@secret@localhost/x", "`storage` has '@', '/' or"),
        ("grpc://", "`storage` is no URL"),
        ("grpc://host:port", "`storage` is no URL"),
    ],
)
def test_a_wrong_url_is_one_sentence(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_storage(url)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgresql://me:secret@localhost/x", "psycopg2", "postgresql"),
        ("mysql://me:secret@localhost/x", "pymysql", "mysql"),
        ("mariadb://me:secret@localhost/x", "pymysql", "mysql"),
        ("grpc://localhost", "grpc", "grpc"),
    ],
)
def test_without_a_driver_its_extra_is_named(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError) as caught:
        check_storage(url)
    said = f'needs the package {package}, which is not installed: pip install ".[{extra}]".'
    assert said in str(caught.value) and "secret" not in str(caught.value)


def test_another_driver_of_a_database_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    with pytest.raises(ValueError, match="the package MySQLdb, which is not installed\\.$"):
        check_storage("mysql+mysqldb://localhost/x")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database, and longer than a header of sqlite would be" * 10)
    with pytest.raises(ValueError, match="text.db cannot be used: file is not a database"):
        check_storage(f"sqlite:///{path}")


def test_who_reads_a_sqlite_file_to_write_it_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_files, "TIMEOUT_SECONDS", 0)
    one, other = (open_storage(f"sqlite:///{tmp_path}/study.db") for _ in range(2))
    with one.engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM trials")
        with pytest.raises(OperationalError, match="locked"), other.engine.begin():
            pass
    with other.engine.begin():
        pass


def test_a_study_that_nobody_has_open_is_one_file(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    optuna.create_study(storage=storage)
    del storage
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


@pytest.mark.parametrize(
    ("mounts", "is_local"),
    [
        ("/dev/sda1 / ext4 rw 0 0", True),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/home /data nfs4 rw 0 0", False),
        ("server:/ / nfs rw 0 0\n/dev/sda1 /data/studies xfs rw 0 0", True),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data/stud nfs rw 0 0", True),
    ],
)
def test_a_disk_is_local_by_what_is_mounted_nearest_to_the_file(
    monkeypatch: pytest.MonkeyPatch, mounts: str, is_local: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: mounts)
    assert sqlite_files._is_on_local_disk(Path("/data/studies/study.db")) == is_local


def test_passwords_are_masked() -> None:
    assert "secret" not in masked("postgresql://me:secret@localhost/x")


def test_only_the_file_of_sqlite_is_one() -> None:
    assert sqlite_file("sqlite:///folder/x.db") == Path("folder/x.db")
    assert sqlite_file("sqlite:////folder/x.db") == Path("/folder/x.db")
    assert sqlite_file("postgresql+psycopg2://me@host/x") is None
    assert sqlite_file("grpc://host:13000") is None
