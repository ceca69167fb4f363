from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
import pytest

from cbal_optuna.comparison import SamplerComparison
from cbal_optuna.study import SAMPLER
from cbal_optuna.study import SEARCH_SEED


def search(
    sampler: str, seed: int, values: Sequence[float], direction: str = "maximize"
) -> optuna.Study:
    """A study that has had these values."""
    study = optuna.create_study(direction=direction)
    study.set_user_attr(SAMPLER, sampler)
    study.set_user_attr(SEARCH_SEED, seed)
    for value in values:
        study.add_trial(
            create_trial(
                params={"balance": 1.0},
                distributions={"balance": FloatDistribution(0.0, 2.0)},
                value=value,
            )
        )
    return study


@pytest.fixture
def comparison() -> SamplerComparison:
    return SamplerComparison.of(
        [
            search("cd", 0, [0.1, 0.5, 0.4, 0.6]),
            search("tpe", 0, [0.1, 0.2, 0.3, 0.3]),
            search("cd", 1, [0.2, 0.2, 0.7, 0.7]),
            search("tpe", 1, [0.2, 0.8, 0.1, 0.1]),
        ]
    )


def test_the_best_value_never_falls(comparison: SamplerComparison) -> None:
    assert comparison.best["cd"][0].tolist() == [0.1, 0.5, 0.5, 0.6]
    assert comparison.best["tpe"][1].tolist() == [0.2, 0.8, 0.8, 0.8]


def test_the_target_is_that_of_the_best_search_of_the_seed(comparison: SamplerComparison) -> None:
    reached = comparison.trials_to_target()
    assert reached.loc[0].tolist() == [4, np.inf]
    assert reached.loc[1].tolist() == [np.inf, 2]


def test_differences_are_paired_by_seed(comparison: SamplerComparison) -> None:
    found = comparison.differences(4).loc["tpe"]
    # 0.6 - 0.3 and 0.7 - 0.8.
    assert found["mean"] == pytest.approx(0.1)
    assert (found["low"], found["high"]) == pytest.approx((-0.1, 0.3))


def test_lower_values_are_better_where_the_study_says_so() -> None:
    comparison = SamplerComparison.of(
        [
            search("cd", 0, [3.0, 1.0, 2.0], "minimize"),
            search("tpe", 0, [3.0, 2.0, 2.0], "minimize"),
        ]
    )
    assert comparison.best["cd"][0].tolist() == [3.0, 1.0, 1.0]
    assert comparison.differences(3).loc["tpe", "mean"] == pytest.approx(1.0)
    assert comparison.trials_to_target().loc[0].tolist() == [2, np.inf]


def test_searches_are_compared_as_far_as_all_have_come() -> None:
    comparison = SamplerComparison.of(
        [search("cd", 0, np.arange(12.0)), search("tpe", 0, np.arange(11.0))]
    )
    assert comparison.counts == [10, 11]
    assert comparison.table()["best after 11"].tolist() == [10.0, 10.0]


def test_a_seed_that_only_one_sampler_has_is_no_difference() -> None:
    comparison = SamplerComparison.of(
        [
            search("cd", 0, [1.0, 2.0]),
            search("tpe", 0, [1.0, 1.5]),
            search("cd", 1, [1.0, 9.0]),
        ]
    )
    assert comparison.differences(2).loc["tpe", "mean"] == pytest.approx(0.5)


def test_studies_of_other_packages_are_compared_by_name() -> None:
    study = optuna.create_study(study_name="mine", direction="maximize")
    study.add_trial(create_trial(value=1.0))
    assert SamplerComparison.of([study]).samplers == ["mine"]


def test_studies_of_both_directions_are_refused() -> None:
    with pytest.raises(ValueError, match="the same direction"):
        SamplerComparison.of([search("cd", 0, [1.0]), search("tpe", 0, [1.0], "minimize")])


def test_studies_without_a_trial_are_refused() -> None:
    with pytest.raises(ValueError, match="no usable trial"):
        SamplerComparison.of([search("cd", 0, [])])
