"""Databases that are old, half made, or not to be written, and clocks that jump."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
import shutil
import subprocess
import sys

from alembic import command
import optuna
from optuna.storages import RDBStorage
from optuna.trial import create_trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import study as study_module
from cbal_optuna.commands import main
from cbal_optuna.report import write_report
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import open_storage
from cbal_optuna.stored_trials import retry_stale_trials
from cbal_optuna.study import run_trials


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a study with three trials."""
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=open_storage(url), study_name="a", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 3)
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    return url


def make_older(url: str) -> None:
    """As Optuna's own migration does it, to the tables of version 2.6."""
    storage = RDBStorage(url)
    with storage.engine.begin() as connection:
        # By the name that the migration has given it.
        connection.exec_driver_sql("CREATE INDEX trials_study_id_key ON trials (study_id)")
        connection.exec_driver_sql("UPDATE version_info SET library_version = '2.6.0'")
    command.downgrade(storage._version_manager._create_alembic_config(), "v3.0.0.d")
    storage.engine.dispose()


@pytest.mark.filterwarnings("ignore")
def test_an_older_schema_is_named_with_the_way_out(url: str, tmp_path: Path) -> None:
    make_older(url)
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(ValueError, match="was made by Optuna 2.6.0, with other tables") as said:
        check_storage(url)
    assert f"`optuna storage upgrade --storage {url}`" in str(said.value)
    assert (tmp_path / "study.db").read_bytes() == before
    upgrade = [shutil.which("optuna", path=Path(sys.executable).parent), "storage", "upgrade"]
    subprocess.run([*upgrade, "--storage", url], check=True, capture_output=True)
    assert check_storage(url)


def test_a_newer_schema_is_named(url: str) -> None:
    storage = open_storage(url)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE version_info SET library_version = '99.0'")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v99'")
    storage.engine.dispose()
    with pytest.raises(ValueError, match="99.0, which is newer .*; update it with `pip install"):
        check_storage(url)


@pytest.mark.parametrize("n_tables", [1, 5, 10])
def test_a_database_whose_making_was_cut_off_is_made_to_its_end(
    tmp_path: Path, n_tables: int
) -> None:
    url = f"sqlite:///{tmp_path}/half.db"
    whole = RDBStorage(url)
    tables = ["alembic_version", "version_info", *map(str, optuna_tables())]
    with whole.engine.begin() as connection:
        for name in tables[:n_tables]:
            connection.exec_driver_sql(f"DROP TABLE {name}")
    whole.engine.dispose()
    check_storage(url)
    study = optuna.create_study(storage=open_storage(url))
    study.optimize(lambda trial: 1.0, 1)
    assert study.best_value == 1.0


def optuna_tables() -> list[str]:
    from optuna.storages._rdb.models import BaseModel

    names = [table.name for table in reversed(BaseModel.metadata.sorted_tables)]
    return [name for name in names if name != "version_info"]


@pytest.fixture
def read_only(tmp_path: Path, url: str) -> Path:
    """The folder of the study, where nobody can write, not even root."""
    mount = ["mount", "--bind", "-o", "ro", str(tmp_path), str(tmp_path)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a folder can be mounted read-only by root on Linux")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_file_that_cannot_be_written_can_be_looked_at(
    read_only: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["summary", url])
    assert not exit.value.code and "3 trials" in capsys.readouterr().out
    with pytest.raises(ValueError, match="cannot be written: .* is read-only"):
        check_storage(url)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_costs_a_retry_at_most(
    url: str, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else its first sign of life may come after the jump.
    monkeypatch.setattr(study_module, "get_heartbeat_thread", lambda *arguments: nullcontext())
    storage = open_storage(url)
    study = optuna.load_study(study_name="a", storage=storage)

    def jump(trial: optuna.Trial) -> float:
        if trial.number == 3:
            storage.record_heartbeat(trial._trial_id)
            with storage.engine.begin() as connection:
                connection.exec_driver_sql(
                    f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '{-hours} hours')"
                )
            # As another process would.
            retry_stale_trials(optuna.load_study(study_name="a", storage=open_storage(url)))
        trial.report(0.5, 0)
        return 0.5

    run_trials(study, jump, 5)
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    given_up = [t for t in study.trials if t.state == TrialState.FAIL]
    assert len(complete) == 5
    assert [t.number for t in given_up] == ([3] if hours > 0 else [])
    assert not any("failure" in t.user_attrs for t in complete)


def test_a_trial_that_ended_before_it_began_is_reported(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    for value in (0.1, 0.2):
        trial = create_trial(value=value)
        assert trial.datetime_complete is not None
        trial.datetime_start = trial.datetime_complete + timedelta(hours=1)
        study.add_trial(trial)
    write_report(tmp_path / "report.html", study)
    assert (tmp_path / "report.html").exists()
