"""A study of one trial, and what to export of it."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.study import Study
import pytest

from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome


@pytest.fixture
def searched() -> Callable[[Objective[Outcome]], Study]:
    """Runs the usual setting of an objective."""

    def run(objective: Objective[Outcome]) -> Study:
        study = optuna.create_study(study_name="tiny", direction="maximize")
        study.enqueue_trial(objective.space.searched(objective.space.usual))
        study.optimize(objective, n_trials=1)
        return study

    return run
