"""A database as a server has it that is started while workers are at it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import create_trial
from optuna.trial import TrialState
import pytest

from cbal_optuna.patient_storage import PatientStorage
from cbal_optuna.storage import open_storage


pytest.importorskip("grpc")
from cbal_optuna.served_storage import ServedStorage  # noqa: E402


@pytest.fixture
def backend(tmp_path: Path) -> PatientStorage:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    assert isinstance(storage, PatientStorage)
    return storage


def test_a_trial_goes_on_that_was_begun_before(backend: PatientStorage) -> None:
    study_id = ServedStorage(backend).create_new_study([StudyDirection.MAXIMIZE], "a")
    trial_id = ServedStorage(backend).create_new_trial(study_id)
    ServedStorage(backend).set_trial_param(trial_id, "x", 0.5, FloatDistribution(0, 1))
    assert backend.get_trial(trial_id).params == {"x": 0.5}


def test_a_trial_begins_by_the_clock_of_the_server(backend: PatientStorage) -> None:
    study_id = backend.create_new_study([StudyDirection.MAXIMIZE], "a")
    trial = create_trial(state=TrialState.RUNNING)
    trial.datetime_start = datetime(2000, 1, 1)
    trial_id = ServedStorage(backend).create_new_trial(study_id, trial)
    started = backend.get_trial(trial_id).datetime_start
    assert started is not None and started.year > 2000
