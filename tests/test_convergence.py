"""Ending a study that has converged."""

from __future__ import annotations

from collections.abc import Callable
import math

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import convergence
from cbal_optuna import CoordinateDescentSampler
from cbal_optuna import StopWhenConverged
from cbal_optuna import summarize


# Four for each of two hyper-parameters, and once more: before, the model knows too little.
N_NEEDED = 12


def hill(trial: Trial) -> float:
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)
    return 1.0 - 2.0 * (x - 0.3) ** 2 - (y - 0.6) ** 2


def new_study(sampler: BaseSampler | None = None, direction: str = "maximize") -> Study:
    sampler = sampler or CoordinateDescentSampler(seed=0)
    return optuna.create_study(sampler=sampler, direction=direction)


def stopped_after(
    objective: Callable[[Trial], float] = hill,
    stop: StopWhenConverged | None = None,
    n_trials: int = 40,
    n_jobs: int = 1,
    direction: str = "maximize",
) -> Study:
    study = new_study(direction=direction)
    study.optimize(objective, n_trials, n_jobs=n_jobs, callbacks=[stop or StopWhenConverged()])
    return study


def test_a_study_of_a_smooth_objective_is_stopped_when_its_optimum_is_found() -> None:
    study = stopped_after()
    assert N_NEEDED + 2 <= len(study.trials) < 30
    assert study.best_value > 0.999
    assert summarize(study).converged


def test_a_minimised_study_is_stopped_at_the_same_trial() -> None:
    study = stopped_after(lambda trial: -hill(trial), direction="minimize")
    assert len(study.trials) == len(stopped_after().trials)


def test_trials_of_earlier_runs_count_for_what_is_known() -> None:
    study = new_study()
    study.optimize(hill, 7)
    study.optimize(hill, 40, callbacks=[StopWhenConverged()])
    assert len(study.trials) == len(stopped_after().trials)


def test_a_noisy_study_that_is_far_from_known_goes_on() -> None:
    rng = np.random.default_rng(0)
    study = stopped_after(lambda trial: hill(trial) + 0.3 * rng.standard_normal(), n_trials=16)
    assert len(study.trials) == 16


def test_any_sampler_may_search() -> None:
    study = new_study(RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_int("n", 0, 4), 60, callbacks=[StopWhenConverged()])
    assert {trial.params["n"] for trial in study.trials} == set(range(5))
    assert len(study.trials) < 60


@pytest.mark.parametrize("patience", [0, -1])
def test_a_patience_out_of_range_is_refused(patience: int) -> None:
    with pytest.raises(ValueError, match=f"`patience` is {patience}; it should be at least 1"):
        StopWhenConverged(patience=patience)


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_so_many_trials_in_a_row_must_say_so(
    monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    study = new_study(RandomSampler(seed=0))
    verdicts: list[bool] = []

    def every_other_at_first(study: Study) -> object:
        n = len(study.trials)
        verdicts.append(n % 2 == 0 or n >= 7)
        return type("Verdict", (), {"converged": verdicts[-1], "reason": ""})()

    monkeypatch.setattr(convergence, "summarize", every_other_at_first)
    study.optimize(hill, 30, callbacks=[StopWhenConverged(patience)])
    # From the sixth trial on all say so.
    assert len(study.trials) == {1: 2, 2: 7, 5: 10}[patience]
    assert all(verdicts[-patience:])


def test_patience_is_one_trial_after_another() -> None:
    n_trials = [len(stopped_after(stop=StopWhenConverged(patience)).trials) for patience in (1, 3)]
    assert n_trials[0] >= N_NEEDED
    assert n_trials[1] >= n_trials[0] + 2


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE])
def test_a_study_without_a_feasible_trial_goes_on(state: TrialState) -> None:
    def useless(trial: Trial) -> float:
        trial.suggest_float("x", 0.0, 1.0)
        if state == TrialState.PRUNED:
            raise optuna.TrialPruned
        if state == TrialState.FAIL:
            return math.nan
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [1.0])
        return 1.0

    study = stopped_after(useless, n_trials=12)
    assert [trial.state for trial in study.trials] == [state] * 12


def test_a_study_without_hyper_parameters_goes_on() -> None:
    assert len(stopped_after(lambda trial: 1.0, n_trials=5).trials) == 5


def test_infeasible_regions_do_not_keep_a_study_from_converging() -> None:
    def walled(trial: Trial) -> float:
        value = hill(trial)
        excess = trial.params["x"] - 0.6
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [excess])
        return value

    study = stopped_after(walled, n_trials=50)
    assert len(study.trials) < 50
    assert study.best_value > 0.99


def test_threads_stop_together() -> None:
    study = stopped_after(n_trials=60, n_jobs=2)
    assert N_NEEDED <= len(study.trials) < 60
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert study.best_value > 0.99


def test_other_callbacks_are_called_too() -> None:
    study = new_study()
    seen: list[int] = []

    def record(study: Study, trial: FrozenTrial) -> None:
        seen.append(trial.number)

    study.optimize(hill, 40, callbacks=[StopWhenConverged(), record])
    assert seen == [trial.number for trial in study.trials]
