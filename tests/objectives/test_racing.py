"""Trials of several trainings that are ended early."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest

from cbal_optuna.objectives.racing import expected_mean
from cbal_optuna.objectives.racing import is_lost


Array = NDArray[np.float64]

FOLDS = np.array([0.05, -0.04, 0.02, -0.03])


def trials(means: list[float], noise: float = 0.003, seed: int = 0) -> Array:
    """Values by trial and fold; one fold is easier than another for all."""
    rng = np.random.default_rng(seed)
    return np.array(means)[:, None] + FOLDS + noise * rng.standard_normal((len(means), len(FOLDS)))


OTHERS = trials([0.2, 0.24, 0.25, 0.22])


@pytest.mark.parametrize("n_done", [1, 2, 3])
def test_a_trial_that_is_far_behind_is_lost_and_one_that_is_not_is_not(n_done: int) -> None:
    assert is_lost((0.15 + FOLDS[:n_done]).tolist(), OTHERS)
    assert not is_lost((0.248 + FOLDS[:n_done]).tolist(), OTHERS)


def test_folds_are_compared_with_the_same_folds() -> None:
    easy, hard = [FOLDS[0] + 0.21], [FOLDS[0] + 0.25]
    assert easy[0] > OTHERS.mean(axis=1).max()
    assert is_lost(easy, OTHERS)
    assert not is_lost(hard, OTHERS)


def test_what_noise_explains_is_not_lost() -> None:
    assert is_lost((0.22 + FOLDS[:2]).tolist(), OTHERS)
    assert not is_lost((0.22 + FOLDS[:2]).tolist(), trials([0.2, 0.24, 0.25, 0.22], noise=0.02))


@pytest.mark.parametrize("n_others", [0, 1])
def test_without_two_trials_nothing_is_known_of_the_noise(n_others: int) -> None:
    assert not is_lost([-1.0], OTHERS[:n_others])


def test_a_trial_that_is_done_is_not_ended() -> None:
    assert not is_lost([-1.0] * 4, OTHERS)


def test_a_trial_as_good_as_the_best_is_rarely_lost() -> None:
    lost = []
    for seed in range(300):
        *others, own = trials([0.2, 0.24, 0.25, 0.22, 0.25], noise=0.01, seed=seed)
        lost.append(is_lost(own[:2].tolist(), np.array(others)))
    assert np.mean(lost) < 0.06


def test_the_expected_mean_is_that_of_all_folds() -> None:
    for n_done in (1, 2, 3, 4):
        assert expected_mean(0.1 + FOLDS[:n_done], OTHERS) == pytest.approx(0.1, abs=0.005)
