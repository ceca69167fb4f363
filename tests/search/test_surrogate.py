"""The Gaussian process, against scikit-learn's, and the draws of its kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel
from sklearn.gaussian_process.kernels import Matern

from cbal_optuna.search import kernel
from cbal_optuna.search import KnownNoise
from cbal_optuna.search import Space
from cbal_optuna.search import surrogate as module
from cbal_optuna.search.kernel import Kernel
from cbal_optuna.search.kernel import LENGTH_SD
from cbal_optuna.search.kernel import SHEAR_SD
from cbal_optuna.search.surrogate import Draw
from cbal_optuna.search.surrogate import Surrogate


Array = NDArray[np.float64]

X = FloatDistribution(0.0, 1.0)
LOSS = CategoricalDistribution(["infonce", "triplet", "margin"])
SPACES = {
    "one axis": Space.of({"x": X}),
    "three axes": Space.of({"x": X, "y": X, "z": X}),
    "a nominal axis": Space.of({"x": X, "loss": LOSS, "y": X}),
    "nominal axes only": Space.of({"loss": LOSS, "sampler": CategoricalDistribution("ab")}),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def evaluations(space: Space, n: int = 20, seed: int = 0) -> tuple[Array, Array, Array]:
    """Points, values and numbers of observations that have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    points = space.snap_all(rng.random((n, len(space.axes))))
    return points, rng.standard_normal(n), rng.integers(1, 4, n).astype(float)


def most_probable(space: Space, points: Array, values: Array, counts: Array) -> Surrogate:
    return Surrogate(space, points, values, counts, np.random.default_rng(0), n_draws=0)


def drawn(space: Space, points: Array, values: Array, seed: int = 0, **options: Any) -> Surrogate:
    rng = np.random.default_rng(seed)
    return Surrogate(space, points, values, np.ones(len(points)), rng, **options)


def scaled(space: Space, points: Array, kernel: Kernel) -> Array:
    """Written out: numeric axes, then a column for each level of each nominal one."""
    nominal = np.array([axis.nominal for axis in space.axes])
    axes = [(j, axis) for j, axis in enumerate(space.axes) if axis.nominal]
    levels = [
        (points[:, j] == level) * math.sqrt(mismatch / 2.0)
        for (j, axis), mismatch in zip(axes, kernel.mismatch)
        for level in axis.levels()
    ]
    return np.column_stack([points[:, ~nominal] @ kernel.scale, *levels])


def oracle(
    space: Space, draw: Draw, points: Array, values: Array, counts: Array
) -> GaussianProcessRegressor:
    """Of points that are scaled already."""
    kernel = ConstantKernel(draw.kernel.amplitude) * Matern(1.0, nu=2.5)
    return GaussianProcessRegressor(
        kernel + ConstantKernel(module._MEAN_VARIANCE),
        alpha=draw.kernel.noise / counts + module._JITTER,
        optimizer=None,
    ).fit(scaled(space, points, draw.kernel), values)


@every_space
def test_means_and_variances_are_those_of_scikit_learn(space: Space) -> None:
    points, values, counts = evaluations(space)
    surrogate = most_probable(space, points, values, counts)
    asked, _, _ = evaluations(space, 50, seed=1)
    draw = surrogate.draws[0]
    expected, deviations = oracle(space, draw, points, values, counts).predict(
        scaled(space, asked, draw.kernel), return_std=True
    )

    (means,), (variances,) = surrogate.predict(asked)
    assert means == pytest.approx(expected, abs=1e-6)
    assert variances == pytest.approx(deviations**2, abs=1e-6)


@every_space
def test_the_density_is_the_prior_and_the_likelihood_of_scikit_learn(space: Space) -> None:
    points, values, counts = evaluations(space)
    surrogate = most_probable(space, points, values, counts)
    for whitened in np.random.default_rng(0).normal(0.0, 0.7, (5, len(surrogate._prior.mean))):
        likelihood = oracle(
            space,
            surrogate._conditioned(surrogate._prior.kernel(whitened), values),
            points,
            values,
            counts,
        ).log_marginal_likelihood_value_ + 0.5 * len(values) * math.log(2.0 * math.pi)

        assert surrogate._log_likelihood(whitened) == pytest.approx(likelihood, abs=1e-6)
        assert surrogate._objective(whitened)[0] == pytest.approx(
            0.5 * whitened @ whitened - likelihood, abs=1e-6
        )


@every_space
def test_the_gradient_is_that_of_finite_differences(space: Space) -> None:
    surrogate = most_probable(space, *evaluations(space))
    for whitened in np.random.default_rng(0).normal(0.0, 0.7, (5, len(surrogate._prior.mean))):
        expected = [
            (surrogate._objective(whitened + h)[0] - surrogate._objective(whitened - h)[0]) / 2e-4
            for h in 1e-4 * np.eye(len(whitened))
        ]

        assert surrogate._objective(whitened)[1] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@every_space
def test_the_most_probable_kernel_is_at_a_maximum(space: Space) -> None:
    surrogate = most_probable(space, *evaluations(space))
    whitened = surrogate._most_probable()

    _, gradient = surrogate._objective(whitened)
    inside = np.abs(whitened) < 4.99
    assert np.abs(gradient[inside]).max() < 0.05


def test_an_axis_is_measured_along_with_those_after_it() -> None:
    surrogate = most_probable(SPACES["three axes"], *evaluations(SPACES["three axes"]))
    scale = surrogate.draws[0].kernel.scale

    assert (np.diag(scale) > 0.0).all()
    assert (np.triu(scale, 1) == 0.0).all()
    assert (scale[np.tril_indices(3, -1)] != 0.0).all()


def test_two_levels_of_a_nominal_axis_are_equally_far_apart_whichever_they_are() -> None:
    space = Space.of({"loss": LOSS})
    surrogate = most_probable(space, np.array([[0.5]]), np.array([1.0]), np.ones(1))

    means, variances = surrogate.predict(np.array([[0.0], [1.0], [0.5]]))
    assert means[0, 0] == means[0, 1] < means[0, 2]
    assert variances[0, 0] == variances[0, 1] > variances[0, 2]


def test_the_mean_of_two_observations_says_as_much_as_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Surrogate, "_most_probable", lambda self: np.zeros(len(self._prior.mean)))
    space = SPACES["three axes"]
    points, values, counts = evaluations(space, 6)
    twice, once = np.full(6, 2.0), np.ones(12)
    gaps = np.linspace(-0.5, 0.5, 6)
    both = np.concatenate([values - gaps, values + gaps])
    asked, _, _ = evaluations(space, 50, seed=1)

    expected = most_probable(space, np.vstack([points, points]), both, once).predict(asked)
    assert np.allclose(
        most_probable(space, points, values, twice).predict(asked), expected, atol=1e-6
    )


@pytest.mark.parametrize("deviation", [0.1, 0.4])
def test_the_noise_is_recovered(deviation: float) -> None:
    rng = np.random.default_rng(0)
    points = rng.random((60, 1))
    values = np.sin(6.0 * points[:, 0]) + deviation * rng.standard_normal(60)

    noise = drawn(SPACES["one axis"], points, values).noise
    assert deviation / 1.4 < noise < deviation * 1.4


@pytest.mark.parametrize("known", [0.05, 2.0])
def test_the_more_is_known_of_the_noise_the_less_the_values_decide_it(known: float) -> None:
    points, values, _ = evaluations(SPACES["one axis"])
    alone = drawn(SPACES["one axis"], points, values).noise
    little, much = (
        drawn(SPACES["one axis"], points, values, known_noise=KnownNoise(known**2, degrees)).noise
        for degrees in (2, 2_000)
    )

    assert much == pytest.approx(known, rel=0.1)
    assert min(alone, known) < little < max(alone, known)


@pytest.mark.parametrize("variance", [0.0, 1e-300, 1e300, math.inf, math.nan])
def test_a_noise_that_cannot_be_does_no_harm(variance: float) -> None:
    points, values, _ = evaluations(SPACES["one axis"])
    surrogate = drawn(
        SPACES["one axis"], points, values, known_noise=KnownNoise(variance, degrees=50)
    )

    assert 0.0 < surrogate.noise < 100.0


def test_without_noise_little_is_found() -> None:
    points = np.random.default_rng(0).random((40, 1))

    assert drawn(SPACES["one axis"], points, np.sin(6.0 * points[:, 0])).noise < 0.01


def test_draws_from_a_single_evaluation_follow_the_prior() -> None:
    surrogate = drawn(SPACES["three axes"], np.full((1, 3), 0.5), np.zeros(1), n_draws=500)
    scales = np.array([draw.kernel.scale for draw in surrogate.draws])
    lengths = 1.0 / np.diagonal(scales, axis1=1, axis2=2)
    shears = scales[:, 1, 0] * lengths[:, 0]
    logs = np.log(lengths).ravel()

    assert logs.mean() == pytest.approx(surrogate._prior.mean[0], abs=0.15 * LENGTH_SD)
    assert logs.std() == pytest.approx(LENGTH_SD, rel=0.15)
    assert shears.mean() == pytest.approx(0.0, abs=0.2 * SHEAR_SD)
    assert shears.std() == pytest.approx(SHEAR_SD, rel=0.2)


def test_the_generator_decides_the_draws() -> None:
    space = SPACES["a nominal axis"]
    points, values, _ = evaluations(space)
    a, b, c = (drawn(space, points, values, seed).predict(points)[0] for seed in (0, 0, 1))

    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_draws_differ_from_one_another() -> None:
    points, values, _ = evaluations(SPACES["three axes"])
    surrogate = drawn(SPACES["three axes"], points, values, n_draws=5)

    assert len({draw.kernel.noise for draw in surrogate.draws}) == 5


def ridge_error() -> float:
    """Of predictions on a ridge at a constant difference of the two axes: the root mean square
    over three sets of points."""
    space, asked = Space.of({"x": X, "y": X}), np.random.default_rng(9).random((200, 2))

    def f(points: Array) -> Array:
        return np.exp(-(((points[:, 0] - points[:, 1]) / 0.25) ** 2))

    errors = []
    for seed in range(3):
        points = np.random.default_rng(seed).random((20, 2))
        mean, sd = f(points).mean(), f(points).std()
        means, _ = drawn(space, points, (f(points) - mean) / sd).predict(asked)
        errors.append(means.mean(axis=0) * sd + mean - f(asked))
    return float(np.sqrt(np.mean(np.square(errors))))


def test_a_ridge_is_predicted_better_with_shears(monkeypatch: pytest.MonkeyPatch) -> None:
    with_shears = ridge_error()
    monkeypatch.setattr(kernel, "SHEAR_SD", 1e-9)

    assert with_shears < 0.5 * ridge_error()


@every_space
def test_believing_leaves_means_and_lowers_variances(space: Space) -> None:
    points, values, _ = evaluations(space, 8)
    asked, _, _ = evaluations(space, 30, seed=1)
    under_way = asked[:3]
    surrogate = drawn(space, points, values)
    means, variances = surrogate.predict(asked)
    surrogate.believe(under_way)
    means_then, variances_then = surrogate.predict(asked)

    assert np.allclose(means_then, means, atol=1e-6)
    assert (variances_then <= variances + 1e-9).all()
    assert (variances_then[:, :3] < variances[:, :3]).all()


@pytest.mark.parametrize("n_draws", [0, 8])
def test_points_that_nearly_coincide_are_no_trouble(n_draws: int) -> None:
    grid = np.linspace(0.3, 0.3 + 1e-5, 11)
    points = np.column_stack([np.tile(grid, 9), np.repeat(grid[:9], 11)])
    values = np.sin(1e5 * points.sum(axis=1))
    surrogate = drawn(Space.of({"x": X, "y": X}), points, values, n_draws=n_draws)
    surrogate.believe(points[:5] + 1e-6)

    assert np.isfinite(surrogate.predict(points)).all()
