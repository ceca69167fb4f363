"""The scale on which values are modelled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from cbal_optuna.search.scale import Scale


values = st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=40).map(
    lambda numbers: np.array(numbers) / 2.0**10
)


@given(values)
def test_restoring_undoes_transforming(values: np.ndarray) -> None:
    scale = Scale(values)

    assert scale.restore(scale.transform(values)) == pytest.approx(
        values, rel=1e-9, abs=1e-12 * np.ptp(values)
    )


@given(values)
def test_transformed_values_are_standardised(values: np.ndarray) -> None:
    transformed = Scale(values).transform(values)

    assert transformed.mean() == pytest.approx(0.0, abs=1e-9)
    assert transformed.std() == pytest.approx(1.0 if np.ptp(values) else 0.0)


@given(values)
def test_the_order_of_values_is_kept(values: np.ndarray) -> None:
    ordered = np.unique(values)

    assert (np.diff(Scale(values).transform(ordered)) > 0.0).all()
    assert (np.diff(Scale(values).restore(np.linspace(-3.0, 3.0, 50))) > 0.0).all()


@given(values, st.integers(-60, 60))
def test_a_unit_that_is_a_power_of_two_changes_not_a_bit(values: np.ndarray, power: int) -> None:
    unit = 2.0**power

    assert np.array_equal(
        Scale(unit * values).transform(unit * values), Scale(values).transform(values)
    )


@given(values, st.integers(-4096, 4096))
def test_the_zero_of_the_values_does_not_matter(values: np.ndarray, zero: int) -> None:
    assert Scale(values + zero).transform(values + zero) == pytest.approx(
        Scale(values).transform(values), abs=1e-6
    )


def test_a_cliff_takes_little_of_the_scale() -> None:
    good = np.array([0.80, 0.78, 0.76, 0.74, 0.70])
    transformed = Scale(np.append(good, -1000.0)).transform(np.append(good, -1000.0))

    assert transformed[0] - transformed[4] > 0.1 * np.ptp(transformed)


@pytest.mark.parametrize("value", [0.0, 0.25, -3.7, 1e308, -1e308, 5e-324])
@pytest.mark.parametrize("n", [1, 4])
def test_values_that_are_all_the_same_are_zeros(value: float, n: int) -> None:
    scale = Scale(np.full(n, value))
    transformed = scale.transform(np.full(n, value))

    assert transformed.tolist() == [0.0] * n
    assert scale.restore(transformed) == pytest.approx(np.full(n, value))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("largest", [1e308, 1.7e308, 1e-300, 1e-310])
def test_values_at_the_ends_of_the_floats_are_told_apart(largest: float) -> None:
    values = largest * np.array([-1.0, -0.5, 0.0, 0.25, 1.0])
    scale = Scale(values)
    transformed = scale.transform(values)

    assert np.diff(transformed).min() > 0.1
    assert scale.restore(transformed) == pytest.approx(values, rel=1e-9, abs=1e-9 * largest)


def test_beyond_all_that_is_known_restored_values_are_numbers() -> None:
    assert np.isfinite(Scale(np.array([0.0, 0.5, 0.7])).restore(np.array([-1e9, 1e9]))).all()
