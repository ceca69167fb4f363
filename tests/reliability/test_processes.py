"""Processes that are killed, sleep, or begin at once, as in ``benchmarks/reliability.py``."""

from __future__ import annotations

from pathlib import Path
import signal
import sys
from types import ModuleType

import optuna
from optuna.trial import TrialState
import pytest

from cbal_optuna.storage import open_storage
from cbal_optuna.study import run_trials


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_schema"))
    return f"sqlite:///{tmp_path}/study.db"


on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@on_both
def test_a_worker_may_be_killed_at_any_moment(
    killing: ModuleType, url: str, tmp_path: Path
) -> None:
    # In the middle of the second trial, or later where the machine is busy.
    killed = killing.killed_workers(url, tmp_path, n_kills=1, n_trials=2, seed=12)
    assert killed.kills == 1
    assert killed.complete == killed.different_points == 2
    assert killed.retried_once and killed.same_path
    # A trial has 468 or more.
    assert killed.steps_needed <= killed.steps < killed.steps_needed + 200


@on_sqlite
def test_a_worker_that_wakes_up_too_late_does_no_harm(
    disasters: ModuleType, url: str, tmp_path: Path
) -> None:
    assert disasters.sleeping(url, tmp_path, 2) == {
        "statuses": [0, 0],
        "given_up": "no sign of life for 3 seconds",
        "stored_once": True,
    }


@on_both
def test_those_who_begin_a_study_at_the_same_instant_begin_one(
    disasters: ModuleType, url: str, tmp_path: Path
) -> None:
    found = disasters.at_the_same_instant(url, tmp_path, 3)
    assert found == {"statuses": [0], "studies": 1, "waiting": 1}


@on_sqlite
def test_a_trial_given_up_by_others_is_not_told_twice(url: str) -> None:
    study = optuna.create_study(storage=open_storage(url))
    others = optuna.load_study(study_name=study.study_name, storage=url)

    def overtaken(trial: optuna.Trial) -> float:
        if trial.number == 0:
            others.tell(0, state=TrialState.FAIL)
        trial.report(1.0, 0)
        return trial.number

    run_trials(study, overtaken, 2)
    assert [t.state for t in study.trials] == [TrialState.FAIL] + 2 * [TrialState.COMPLETE]


@pytest.mark.parametrize("module", ["numpy", "optuna", "timm"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_loaded_ends_a_program_silently(
    disasters: ModuleType, tmp_path: Path, number: signal.Signals, module: str
) -> None:
    arguments = ["-X", "importtime", str(disasters.STUDIES / "digits.py")]
    if number == signal.SIGINT:
        arguments[2:] = ["-m", "cbal_optuna", "summary", "sqlite:///none.db"]
    moment = disasters.once_loaded(module)
    assert disasters.signalled(arguments, tmp_path, number, moment) == "quiet end"
    assert list(tmp_path.iterdir()) == []
