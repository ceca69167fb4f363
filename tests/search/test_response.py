"""What the evaluations say, in the unit of the objective."""

from __future__ import annotations

from collections.abc import Callable
import itertools
import math

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from cbal_optuna.search import History
from cbal_optuna.search import KnownNoise
from cbal_optuna.search import Point
from cbal_optuna.search import Response
from cbal_optuna.search import response as module
from cbal_optuna.search import Space

from .problems import hill
from .problems import UNIT_SQUARE


Array = NDArray[np.float64]

MIXED = Space.of({"x": FloatDistribution(0.0, 1.0), "loss": CategoricalDistribution("abc")})


def random_history(
    f: Callable[[Point], float], n: int, seed: int = 0, space: Space = UNIT_SQUARE
) -> History:
    rng = np.random.default_rng(seed)
    drawn = [space.snap(list(u)) for u in rng.random((n, len(space.axes)))]
    return History((i, point, f(point)) for i, point in enumerate(drawn))


def response_to(history: History, pending: list[Point] | None = None) -> Response:
    return Response(history, pending or [], UNIT_SQUARE, seed=0)


def restless(point: Point) -> float:
    return math.sin(9.0 * point[0]) + math.cos(7.0 * point[1])


@pytest.mark.parametrize("z", [-8.0, -4.0, -1.01, -0.99, 0.0, 0.7, 3.0, 30.0])
def test_the_log_of_the_expected_improvement_is_that_of_the_integral(z: float) -> None:
    integral, _ = quad(lambda t: (z + t) * norm.pdf(t), -z, max(9.0, 9.0 - z), epsabs=0.0)

    assert module._log_improvement(np.array([z]))[0] == pytest.approx(math.log(integral), rel=1e-7)


# By mpmath with 60 digits: log(npdf(z) + z * ncdf(z)).
@pytest.mark.parametrize(
    "z, expected",
    [
        (-12.0, -77.9091005450073),
        (-24.0, -295.280223234805),
        (-26.0, -345.439546722318),
        (-100.0, -5010.12957880025),
        (-1e4, -50000019.3396193),
    ],
)
def test_the_log_of_the_expected_improvement_holds_far_below(z: float, expected: float) -> None:
    assert module._log_improvement(np.array([z]))[0] == pytest.approx(expected, abs=1e-4)


def test_the_log_of_the_expected_improvement_rises_everywhere() -> None:
    z = np.concatenate([-np.logspace(8, -3, 4000), np.linspace(0.0, 50.0, 1000)])

    assert (np.diff(module._log_improvement(z)) > 0.0).all()


def test_the_expected_improvement_is_positive_and_larger_where_less_is_known() -> None:
    near = [(0.5 + dx, 0.5 + dy) for dx in (-0.01, 0.0, 0.01) for dy in (-0.01, 0.0, 0.01)]
    flat = History((i, UNIT_SQUARE.snap(p), 1e-3 * (i % 2)) for i, p in enumerate(near))
    response = response_to(flat)
    known, unknown = (0.505, 0.505), (0.95, 0.05)

    assert 0.0 < response.expected_improvement(known) < response.expected_improvement(unknown)
    logs = response.log_expected_improvement(np.array([known, unknown]))
    assert logs[0] < logs[1]


def test_the_expected_improvement_agrees_with_its_log_on_which_of_two_points_is_better() -> None:
    response = response_to(random_history(hill((0.3, 0.6), 0.5), 15))
    grid = np.array([(x, y) for x in np.linspace(0.0, 1.0, 7) for y in np.linspace(0.0, 1.0, 7)])
    improvements = np.array([response.expected_improvement(tuple(p)) for p in grid])
    logs = response.log_expected_improvement(grid)

    assert (improvements >= 0.0).all()
    assert improvements[logs.argmax()] > 0.5 * improvements.max()
    assert improvements[logs.argmin()] < 0.1 * improvements.max()


def coverage(seed: int) -> list[bool]:
    """Whether the truth is in the interval, for each evaluated point of a noisy hill."""
    rng = np.random.default_rng(seed)
    f = hill(tuple(rng.random(2)), rng.uniform(0.2, 0.8))
    deviation = 10.0 ** rng.uniform(-4.0, -1.0)
    history = random_history(lambda p: f(p) + deviation * rng.standard_normal(), 14, seed)
    response = response_to(history)
    intervals = [response.interval(point) for point in history.points]
    return [low <= f(point) <= high for point, (low, high) in zip(history.points, intervals)]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = [inside for seed in range(30) for inside in coverage(seed)]

    assert 0.85 < np.mean(covered) <= 1.0


def test_a_higher_level_makes_a_wider_interval() -> None:
    response = response_to(random_history(hill((0.3, 0.6)), 10))
    (low, high), (lower, higher) = (response.interval((0.9, 0.1), level) for level in (0.5, 0.9))

    assert lower < low < high < higher


def test_expected_values_are_those_observed_where_there_is_no_noise() -> None:
    history = random_history(hill((0.3, 0.6), 0.6), 25)
    points, values, _ = history.arrays

    assert response_to(history).expected_values(points) == pytest.approx(values, abs=0.01)


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_the_noise_is_in_the_unit_of_the_objective(unit: float) -> None:
    rng = np.random.default_rng(0)
    f = hill((0.3, 0.6), 1.0)
    history = random_history(lambda p: unit * (f(p) + 0.05 * rng.standard_normal()), 50)

    assert 0.02 * unit < response_to(history).noise < 0.1 * unit


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_what_is_known_of_the_noise_is_in_the_unit_of_the_objective(unit: float) -> None:
    history = random_history(lambda p: unit * hill((0.3, 0.6), 1.0)(p), 12)
    history.known_noise = KnownNoise((0.03 * unit) ** 2, degrees=1_000)

    assert response_to(history).noise == pytest.approx(0.03 * unit, rel=0.1)


def test_the_luckiest_of_many_noisy_evaluations_is_not_the_incumbent() -> None:
    rng = np.random.default_rng(0)
    history = random_history(lambda p: hill((0.3, 0.6), 0.6)(p) + 0.05 * rng.standard_normal(), 40)
    history.add(40, (0.95, 0.05), 1.05)
    history.add(41, (0.96, 0.05), 0.2)
    history.add(42, (0.95, 0.06), 0.2)
    response = response_to(history)

    assert history.best == (0.95, 0.05)
    assert np.abs(response.incumbent - [0.3, 0.6]).max() < 0.25


def test_ranked_points_are_those_evaluated_and_under_way_the_most_promising_first() -> None:
    history = random_history(hill((0.3, 0.6)), 12)
    response = response_to(history, [(0.31, 0.61), (0.9, 0.0)])

    means, _ = response.surrogate.predict(response.ranked)
    assert {tuple(p) for p in response.ranked} == {*history.points, (0.31, 0.61), (0.9, 0.0)}
    assert (np.diff(means.mean(axis=0)) <= 0.0).all()
    assert response.incumbent.tolist() == response.ranked[0].tolist()


def test_a_point_under_way_promises_less_than_before() -> None:
    history = random_history(hill((0.3, 0.6)), 8)
    point = (0.9, 0.95)

    before, then = (response_to(history, p) for p in ([], [point]))
    near = np.array([point])
    assert then.log_expected_improvement(near) < before.log_expected_improvement(near) - 1.0


def test_the_order_of_points_under_way_does_not_matter() -> None:
    history = random_history(hill((0.3, 0.6)), 8)
    pending = [(0.9, 0.95), (0.1, 0.2), (0.5, 0.5)]
    a, b = (response_to(history, p) for p in (pending, pending[::-1]))

    assert np.array_equal(a.expected_values(a.points), b.expected_values(a.points))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", list(itertools.product([math.inf, -math.inf], repeat=3)))
def test_infinite_values_count_as_the_extremes_of_the_finite_ones_or_somewhat_beyond(
    odd: tuple[float, ...],
) -> None:
    history = random_history(hill((0.3, 0.6), 0.5), 12)
    _, values, _ = history.arrays
    places = [(0.9, 0.1), (0.05, 0.95), (0.99, 0.99)]
    for i, (point, value) in enumerate(zip(places, odd)):
        history.add(12 + i, point, value)
    expected = response_to(history).expected_values(np.array(places))

    for value, known in zip(expected, odd):
        edge = values.max() if known > 0.0 else values.min()
        assert -0.05 < np.sign(known) * (value - edge) < 1.5 * np.ptp(values)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1e-300, 1e-9, 1e9, 1e300])
def test_everything_is_in_the_unit_of_the_objective(unit: float) -> None:
    f = hill((0.3, 0.6))
    plain = response_to(random_history(f, 12))
    scaled = response_to(random_history(lambda p: unit * f(p), 12))
    point = (0.42, 0.51)

    def rescaled(response: Response, u: float) -> list[float]:
        return [
            response.expected_improvement(point) / u,
            *(response.expected_values(np.array([point])) / u),
            *(end / u for end in response.interval(point)),
        ]

    assert rescaled(scaled, unit) == pytest.approx(rescaled(plain, 1.0), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, -2.5, 1e300])
def test_values_that_are_all_the_same_are_expected_where_they_were(value: float) -> None:
    response = response_to(random_history(lambda point: value, 6))

    assert response.expected_values(response.points) == pytest.approx(
        np.full(6, value), rel=0.01, abs=0.01
    )


def test_a_single_evaluation_is_enough() -> None:
    response = response_to(History([(0, (0.5, 0.5), 3.0)]))
    low, high = response.interval((0.9, 0.9))

    assert response.incumbent.tolist() == [0.5, 0.5]
    assert low < 3.0 < high


def test_of_many_evaluations_the_best_and_those_around_the_best_are_modelled() -> None:
    near, far = hill((0.3, 0.6), 0.3), hill((0.9, 0.1), 0.3)
    history = random_history(lambda p: near(p) + 0.9 * far(p), 3 * module.MAX_POINTS)
    response = response_to(history)
    modelled = {tuple(p) for p in response.points}
    by_value = sorted(history.points, key=history.value, reverse=True)
    by_distance = sorted(history.points, key=lambda p: math.dist(p, history.best))

    assert len(modelled) == module.MAX_POINTS
    assert modelled >= set(by_value[: module.MAX_POINTS // 2])
    assert modelled >= set(by_distance[: module.MAX_POINTS // 2])


def test_each_level_of_a_nominal_axis_has_its_own_values() -> None:
    heights = {0.0: 0.0, 0.5: 3.0, 1.0: 1.0}
    history = random_history(lambda p: heights[p[1]] + p[0], 30, space=MIXED)
    response = Response(history, [], MIXED, seed=0)
    asked = np.array([(0.5, level) for level in heights])

    assert response.expected_values(asked) == pytest.approx([0.5, 3.5, 1.5], abs=0.1)
