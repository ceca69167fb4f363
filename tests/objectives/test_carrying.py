"""Settings for another batch size."""

from __future__ import annotations

import pytest

from cbal_optuna.objectives import carry_over


INFONCE = {"balance": 8.0, "temperature": 0.2, "denominator": "negatives", "batch_size": 128}


def test_balance_and_temperature_of_infonce_shrink_with_the_root_of_the_batch_size() -> None:
    assert carry_over(INFONCE, 128, 32) == {
        "balance": 4.0,
        "temperature": 0.1,
        "denominator": "negatives",
        "batch_size": 32,
    }


def test_to_larger_batches_infonce_is_carried_over_as_it_is() -> None:
    assert carry_over(INFONCE, 128, 512) == {**INFONCE, "batch_size": 512}


@pytest.mark.parametrize("aggregation", ["all", "nonzero"])
def test_means_over_pairs_are_carried_over_as_they_are(aggregation: str) -> None:
    params = {"balance": 16.0, "margin": 0.1, "aggregation": aggregation}
    assert carry_over(params, 128, 1_024) == params


def test_the_balance_of_a_sum_per_anchor_goes_with_the_inverse_of_the_batch_size() -> None:
    params = {"balance": 1.0, "margin": 0.1, "aggregation": "anchor_sum"}
    assert carry_over(params, 128, 512) == {**params, "balance": 0.25}


def test_two_steps_are_one() -> None:
    two_steps = carry_over(carry_over(INFONCE, 128, 32), 32, 16)
    assert two_steps == pytest.approx(carry_over(INFONCE, 128, 16))


def test_the_setting_given_is_not_changed() -> None:
    before = dict(INFONCE)
    carry_over(INFONCE, 128, 32)
    assert INFONCE == before


@pytest.mark.parametrize("sizes", [(0, 32), (32, 0)])
def test_a_batch_size_below_1_is_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is 0"):
        carry_over(INFONCE, *sizes)
