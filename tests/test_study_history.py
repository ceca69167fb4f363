"""What trials of several trainings tell: by themselves, and the sampler that reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import create_trial
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna import summarize
from cbal_optuna.search import History
from cbal_optuna.search import Space
from cbal_optuna.study_history import StudyHistory


UNIT = {"x": FloatDistribution(0.0, 1.0)}
SPACE = Space.of(UNIT)
FOLDS = np.array([0.3, -0.2, 0.1])


def add(study: Study, x: float, values: Any, value: float | None = None, **attrs: Any) -> None:
    value = float(np.mean(values)) if value is None else value
    attrs["values"] = values
    study.add_trial(
        create_trial(params={"x": x}, distributions=UNIT, value=value, user_attrs=attrs)
    )


def history_of(study: Study) -> History:
    history = StudyHistory(study)
    history.read(study)
    return history.evaluations(SPACE)


def test_how_much_trainings_differ_is_how_noisy_their_mean_is() -> None:
    study, rng = optuna.create_study(direction="maximize"), np.random.default_rng(0)
    for x in np.linspace(0.0, 1.0, 200):
        add(study, x, (x + FOLDS + 0.06 * rng.standard_normal(3)).tolist())
    known = history_of(study).known_noise

    assert known is not None and known.degrees == 2 * 199
    assert known.variance == pytest.approx(0.06**2 / 3, rel=0.15)


def test_a_trial_of_fewer_trainings_counts_as_much_less() -> None:
    study = optuna.create_study(direction="maximize")
    add(study, 0.2, [0.5, 0.1, 0.3])
    add(study, 0.4, [0.5, 0.2], value=0.34, trainings=2)
    _, values, counts = history_of(study).arrays

    assert values.tolist() == [pytest.approx(0.3), 0.34]
    assert counts.tolist() == [1.0, pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    "values", ["0.5", 0.5, {}, [], ["a", "b"], [0.4, None], [0.9, 0.3], [0.5, float("inf")]]
)
def test_what_somebody_else_calls_values_is_left_alone(values: Any) -> None:
    study = optuna.create_study(direction="maximize")
    for x in (0.1, 0.2, 0.3):
        add(study, x, values, value=0.5)
    history = history_of(study)

    assert history.known_noise is None
    assert history.arrays[2].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("deviation", [0.001, 0.1])
def test_the_summary_knows_the_noise_of_trainings_from_few_trials(deviation: float) -> None:
    rng = np.random.default_rng(0)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        values = 1.0 - 4.0 * (x - 0.3) ** 2 + FOLDS + deviation * rng.standard_normal(3)
        trial.set_user_attr("values", values.tolist())
        return float(values.mean())

    study = optuna.create_study(
        direction="maximize", sampler=CoordinateDescentSampler(x0={"x": 0.9}, seed=0)
    )
    study.optimize(objective, n_trials=12)
    summary = summarize(study)

    assert summary.noise_is_known
    assert summary.noise == pytest.approx(deviation / 3**0.5, rel=0.4)
