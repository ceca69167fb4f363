"""What has been evaluated so far."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cbal_optuna.search import History


def test_repeated_evaluations_of_a_point_count_by_their_mean() -> None:
    history = History([(0, (0.0,), 1.0), (1, (0.5,), 2.0), (2, (0.0,), 5.0), (3, (1.0,), 2.5)])

    assert (history.value((0.0,)), history.number((0.0,)), len(history)) == (3.0, 0, 3)
    assert history.best == (0.0,)


def test_an_evaluation_that_counts_less_than_one_may_be_as_large_as_a_float() -> None:
    history = History()
    history.add(0, (0.0,), 1.7e308, 0.25)

    assert history.value((0.0,)) == 1.7e308


def test_an_evaluation_may_count_less_than_another() -> None:
    history = History()
    history.add(0, (0.0,), 1.0, 0.25)
    history.add(1, (0.0,), 2.0, 0.75)
    _, values, counts = history.arrays

    assert (values.tolist(), counts.tolist()) == ([1.75], [1.0])


def test_one_evaluation_that_could_not_be_used_spoils_a_point() -> None:
    history = History([(0, (0.0,), 9.0), (1, (0.5,), 1.0), (2, (0.0,), -math.inf)])

    assert history.best == (0.5,)
    assert history.lowest == 1.0


def test_a_point_both_infinitely_good_and_unusable_is_unusable() -> None:
    assert History([(0, (0.0,), math.inf), (1, (0.0,), -math.inf)]).value((0.0,)) == -math.inf


def test_the_earliest_of_equals_is_the_best() -> None:
    assert History([(1, (0.0,), 2.0), (0, (0.5,), 2.0), (2, (1.0,), 1.0)]).best == (0.5,)


def test_arrays_are_in_the_order_of_the_first_trials() -> None:
    history = History([(3, (0.5, 0.0), 1.0), (0, (1.0, 0.0), 2.0)])
    assert history.points == [(1.0, 0.0), (0.5, 0.0)]
    history.add(4, (1.0, 0.0), 4.0)
    history.add(1, (0.0, 1.0), 7.0)
    points, values, counts = history.arrays

    assert points.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]]
    assert values.tolist() == [3.0, 7.0, 1.0]
    assert counts.tolist() == [2.0, 1.0, 1.0]


@pytest.mark.parametrize("values, known", [([], False), ([np.inf, -np.inf], False), ([1.0], True)])
def test_a_history_knows_whether_anything_in_it_is_finite(
    values: list[float], known: bool
) -> None:
    assert History((i, (float(i),), v) for i, v in enumerate(values)).any_finite is known
