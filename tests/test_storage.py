from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
import pytest

from cbal_optuna import storage as storage_module
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
    ],
)
def test_a_wrong_url_is_one_sentence(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_storage(url)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database, and longer than a header of sqlite would be" * 10)
    with pytest.raises(ValueError, match="text.db cannot be used: file is not a database"):
        check_storage(f"sqlite:///{path}")


def test_passwords_are_masked() -> None:
    assert "secret" not in masked("postgresql://me:secret@localhost/x")


def test_a_killed_workers_trial_is_retried_at_its_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The heartbeat is compared with the database's clock, in whole seconds: one that is long past
    # stands for a worker that died.
    monkeypatch.setattr(storage_module, "HEARTBEAT_SECONDS", 1)
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    assert isinstance(storage, RDBStorage)
    study = optuna.create_study(storage=storage)
    dead = study.ask()
    x = dead.suggest_float("x", 0, 1)
    storage.record_heartbeat(dead._trial_id)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')"
        )
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    failed, retried = study.trials
    assert (failed.state, retried.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert failed.params == retried.params == {"x": x}


def test_only_the_file_of_sqlite_is_one() -> None:
    assert sqlite_file("sqlite:///folder/x.db") == Path("folder/x.db")
    assert sqlite_file("sqlite:////folder/x.db") == Path("/folder/x.db")
    assert sqlite_file("postgresql+psycopg2://me@host/x") is None
