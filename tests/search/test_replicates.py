"""How noisy values are, by the trainings that they are means of."""

from __future__ import annotations

import numpy as np
import pytest

from cbal_optuna.search import KnownNoise
from cbal_optuna.search import Replicates


def noise_of(values: list[list[float]]) -> KnownNoise | None:
    replicates = Replicates()
    for trial in values:
        replicates.add(trial)
    return replicates.of_one_training


def test_the_noise_is_the_residual_of_a_two_way_analysis_of_variance() -> None:
    values = np.random.default_rng(0).normal(size=(7, 4))
    trials, trainings = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    residual = values - trials - trainings + values.mean()

    noise = noise_of(values.tolist())
    assert noise is not None and noise.degrees == 6 * 3
    assert noise.variance == pytest.approx((residual**2).sum() / 18)


def test_what_all_trials_of_a_setting_or_all_of_a_fold_share_is_no_noise() -> None:
    settings, folds = [0.2, 0.5, 0.9], [0.0, 0.1, -0.3]

    noise = noise_of([[setting + fold for fold in folds] for setting in settings])
    assert noise is not None and noise.variance == pytest.approx(0.0, abs=1e-15)


def test_trials_that_were_spared_some_trainings_tell_of_the_others() -> None:
    whole, spared = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [[0.5, 0.0], [0.0, 0.5]]
    a, b, both = noise_of(whole), noise_of(spared), noise_of([*whole, *spared])

    assert a is not None and b is not None
    assert both == KnownNoise(
        pytest.approx((2 * a.variance + b.variance) / 3), a.degrees + b.degrees
    )


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [[1.0], [2.0], [3.0]]])
def test_one_trial_and_trials_of_one_training_tell_nothing(values: list[list[float]]) -> None:
    assert noise_of(values) is None


def test_of_values_whose_squares_are_beyond_a_float_nothing_is_known() -> None:
    assert noise_of([[1e200, 2e200], [3e200, 1e200], [1.0, 2.0]]) is None
