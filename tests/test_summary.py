from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
import pytest

from cbal_optuna import summarize


def study_of(
    points: Sequence[tuple[float, str, float]], direction: str = "maximize"
) -> optuna.Study:
    """A study with one trial for each balance, aggregation and value."""
    distributions = {
        "balance": FloatDistribution(0.1, 10),
        "aggregation": CategoricalDistribution(("all", "nonzero", "anchor_sum")),
    }
    study = optuna.create_study(direction=direction)
    for balance, aggregation, value in points:
        params = {"balance": balance, "aggregation": aggregation}
        study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    return study


POINTS = [(1.0, "all", 0.5), (2.0, "nonzero", 0.995), (4.0, "all", 1.0), (8.0, "all", 0.9)]


def test_usual_is_the_first_completed_trial_and_gain_is_against_it() -> None:
    summary = summarize(study_of(POINTS))
    assert summary.usual is not None and summary.usual.number == 0
    assert summary.best.number == 2
    assert summary.gain == pytest.approx(1.0)


def test_near_optimal_values_are_those_within_one_per_cent() -> None:
    balance, aggregation = summarize(study_of(POINTS)).near_optimal
    assert (balance.values, balance.below, balance.above) == ((2.0, 4.0), 1.0, 8.0)
    assert (aggregation.values, aggregation.below) == (("all", "nonzero"), None)


def test_an_interval_at_the_edge_of_what_was_tried_is_open() -> None:
    balance, _ = summarize(study_of(POINTS[:3])).near_optimal
    assert balance.above is None


def test_minimised_studies_gain_by_falling() -> None:
    summary = summarize(study_of([(1.0, "all", 2.0), (2.0, "all", 1.0)], "minimize"))
    assert summary.best.number == 1
    assert summary.gain == pytest.approx(0.5)


def test_infeasible_trials_are_never_the_best() -> None:
    study = study_of(POINTS)

    def infeasible(trial: optuna.Trial) -> float:
        trial.suggest_float("balance", 0.1, 10)
        trial.suggest_categorical("aggregation", ("all", "nonzero", "anchor_sum"))
        trial.set_constraint("trainable", 1.0)
        return 2.0

    if not hasattr(optuna.Trial, "set_constraint"):
        pytest.skip("Optuna 4 has no constraints on trials")
    study.optimize(infeasible, n_trials=1)
    assert summarize(study).best.number == 2


def test_a_study_without_results_has_no_summary() -> None:
    with pytest.raises(ValueError, match="No trials are completed"):
        summarize(optuna.create_study())
