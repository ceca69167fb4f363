"""A Gaussian process on all evaluations, with what is not known of its kernel integrated out.

The kernel is Matern-5/2 over a *sheared* metric: axis ``k`` is measured as ``(x_k + sum over i > k
of u_ik x_i) / length_k``, so that a ridge along which two hyper-parameters change together
(balance and temperature at a constant ratio, say) costs the model no more than one along an axis.
Nominal axes count as equal or different. Lengths, shears, amplitude and noise have the priors
below; a few draws from their posterior by elliptical slice sampling (Murray, Adams and MacKay,
2010) stand for all that the few evaluations of a search leave open, above all how noisy they are.

See Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), chapters 2 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from cbal_optuna.search.space import Space


Array = NDArray[np.float64]

# Priors, of standardised values over axes of length 1: medians and standard deviations of logs.
_LENGTH, _LENGTH_SD = 0.5, 0.6
_NOMINAL_LENGTH = 2.0
_AMPLITUDE, _AMPLITUDE_SD = 1.0, 1.0
_NOISE, _NOISE_SD = 1e-3, 2.0
_SHEAR_SD = 0.7
# The prior variance of the mean of all values.
_MEAN_VARIANCE = 1.0
_JITTER = 1e-8

# Draws; fewer of a model of many points, which leave less open.
_N_DRAWS, _N_DRAWS_OF_MANY = 8, 4
_MANY = 60
_THINNING = 4
_MAX_ITERATIONS = 40


class Metric:
    """Turns points into the features between which the kernel takes Euclidean distances."""

    def __init__(self, space: Space) -> None:
        self.nominal = np.array([axis.nominal for axis in space.axes], dtype=bool)
        self._levels = [axis.n_levels or 0 for axis in space.axes]
        self.numeric = np.flatnonzero(~self.nominal)
        below = [(i, k) for k in range(len(self.numeric)) for i in range(k + 1, len(self.numeric))]
        self.shears = np.array(below, dtype=int).reshape(-1, 2)

    def features(self, points: Array) -> Array:
        """Positions of numeric axes, then each nominal axis as one column a level: two levels are
        at a distance of 1."""
        columns = [points[:, self.numeric]]
        for j in np.flatnonzero(self.nominal):
            levels = np.arange(self._levels[j])
            level = np.rint(points[:, j] * (self._levels[j] - 1))
            columns.append((level[:, None] == levels) / math.sqrt(2.0))
        return np.hstack(columns)


@dataclass(frozen=True)
class Draw:
    """One setting of the kernel, and the weights of the evaluations under it."""

    scale: Array
    amplitude: float
    noise: float
    factor: Array
    weights: Array


class Surrogate:
    """The posterior over the objective, from evaluations.

    Args:
        space:
            The search space.
        points:
            Positions, of shape (n, number of axes).
        values:
            What was observed there, standardised, of shape (n,); higher is better.
        counts:
            How many observations each value is the mean of, of shape (n,).
        rng:
            Makes the draws.
        n_draws:
            Settings of the kernel, by default 4 to 8; 0 takes the most probable one alone.
    """

    def __init__(
        self,
        space: Space,
        points: Array,
        values: Array,
        counts: Array,
        rng: np.random.Generator,
        n_draws: int | None = None,
    ) -> None:
        self._metric = Metric(space)
        self._features = self._metric.features(points)
        self._values = values
        self._counts = counts
        self._prior_mean, self._prior_sd = self._prior()
        if n_draws is None:
            n_draws = _N_DRAWS if len(points) <= _MANY else _N_DRAWS_OF_MANY
        best = self._most_probable()
        whitened = self._drawn(best, rng, n_draws) if n_draws else [best]
        self.draws = [self._draw(z) for z in whitened]

    @property
    def noise(self) -> float:
        """The standard deviation of one observation: the median over the draws."""
        return float(np.sqrt(np.median([draw.noise for draw in self.draws])))

    def believe(self, points: Array) -> None:
        """Add points under way, as if their values were what is expected now."""
        means, _ = self.predict(points)
        features = self._metric.features(points)
        self._features = np.vstack([self._features, features])
        self._counts = np.concatenate([self._counts, np.ones(len(points))])
        self.draws = [
            self._conditioned(d.scale, d.amplitude, d.noise, np.concatenate([self._values, mean]))
            for d, mean in zip(self.draws, means)
        ]

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Means and variances of the objective, noise apart: two arrays of shape (draws, n)."""
        features = self._metric.features(points)
        means = np.empty((len(self.draws), len(points)))
        variances = np.empty_like(means)
        for i, draw in enumerate(self.draws):
            cross = self._covariance(features, draw)
            means[i] = cross @ draw.weights
            half, _ = lapack.dtrtrs(draw.factor, cross.T, lower=1)
            prior = draw.amplitude + _MEAN_VARIANCE
            variances[i] = np.maximum(prior - np.einsum("ij,ij->j", half, half), 1e-12)
        return means, variances

    def _prior(self) -> tuple[Array, Array]:
        """Of log lengths, log amplitude, log noise and shears."""
        metric = self._metric
        n_numeric, n_nominal = len(metric.numeric), int(metric.nominal.sum())
        length = math.log(_LENGTH) + 0.1 * math.log(n_numeric + n_nominal)
        mean = [length] * n_numeric + [math.log(_NOMINAL_LENGTH)] * n_nominal
        sd = [_LENGTH_SD] * (n_numeric + n_nominal)
        mean += [math.log(_AMPLITUDE), math.log(_NOISE)] + [0.0] * len(metric.shears)
        sd += [_AMPLITUDE_SD, _NOISE_SD] + [_SHEAR_SD] * len(metric.shears)
        return np.array(mean), np.array(sd)

    def _unpacked(self, whitened: Array) -> tuple[Array, float, float]:
        """Scale matrix, amplitude and noise variance."""
        metric = self._metric
        theta = self._prior_mean + self._prior_sd * whitened
        n_numeric, n_axes = len(metric.numeric), len(metric.nominal)
        inverse = np.exp(-theta[:n_axes])
        scale = np.zeros((self._features.shape[1],) * 2)
        shear = np.eye(n_numeric)
        shear[metric.shears[:, 0], metric.shears[:, 1]] = theta[n_axes + 2 :]
        scale[:n_numeric, :n_numeric] = shear * inverse[:n_numeric]
        nominal = [n for n, is_nominal in zip(metric._levels, metric.nominal) if is_nominal]
        columns = np.repeat(inverse[n_numeric:], nominal)
        diagonal = np.arange(n_numeric, len(scale))
        scale[diagonal, diagonal] = columns
        return scale, math.exp(theta[n_axes]), math.exp(theta[n_axes + 1])

    def _covariance(self, features: Array, draw: Draw) -> Array:
        kernel = _matern(_squared_distances(features @ draw.scale, self._features @ draw.scale))
        return draw.amplitude * kernel + _MEAN_VARIANCE

    def _conditioned(self, scale: Array, amplitude: float, noise: float, values: Array) -> Draw:
        z = self._features @ scale
        factor, failed = self._factor(_matern(_squared_distances(z, z)), amplitude, noise)
        assert not failed
        weights, _ = lapack.dpotrs(factor, values, lower=1)
        return Draw(scale, amplitude, noise, factor, weights)

    def _factor(self, kernel: Array, amplitude: float, noise: float) -> tuple[Array, int]:
        """The Cholesky factor of the covariance of the observations, and whether there is none."""
        covariance = amplitude * kernel
        covariance += _MEAN_VARIANCE
        covariance.flat[:: len(covariance) + 1] += noise / self._counts + _JITTER
        factor, failed = lapack.dpotrf(covariance.T, lower=1, overwrite_a=1)
        return factor, failed

    def _draw(self, whitened: Array) -> Draw:
        return self._conditioned(*self._unpacked(whitened), self._values)

    def _log_likelihood(self, whitened: Array) -> float:
        if np.abs(whitened).max() > 6.0:
            return -math.inf
        scale, amplitude, noise = self._unpacked(whitened)
        z = self._features @ scale
        factor, failed = self._factor(_matern(_squared_distances(z, z)), amplitude, noise)
        if failed:
            return -math.inf
        half, _ = lapack.dtrtrs(factor, self._values, lower=1)
        return float(-0.5 * half @ half - np.log(np.diag(factor)).sum())

    def _most_probable(self) -> Array:
        """The whitened parameters of the highest posterior density."""
        start = np.zeros(len(self._prior_mean))
        found: Any = minimize(
            self._objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-5.0, 5.0)] * len(start),
            options={"maxiter": _MAX_ITERATIONS},
        )
        return np.asarray(found.x)

    def _objective(self, whitened: Array) -> tuple[float, Array]:
        """Negative log posterior density and its gradient."""
        metric = self._metric
        scale, amplitude, noise = self._unpacked(whitened)
        z = self._features @ scale
        squared = _squared_distances(z, z)
        root = np.sqrt(5.0 * squared)
        decay = np.exp(-root)
        kernel = (1.0 + root + root * root / 3.0) * decay
        factor, failed = self._factor(kernel, amplitude, noise)
        if failed:
            return 1e10, np.zeros_like(whitened)
        inverse, _ = lapack.dpotri(factor, lower=1)
        inverse += np.tril(inverse, -1).T
        weights = inverse @ self._values
        density = 0.5 * self._values @ weights + np.log(np.diag(factor)).sum()
        outer = 0.5 * (inverse - np.outer(weights, weights))
        # d kernel / d squared distance = -5/6 (1 + root) decay
        slope = outer * (-5.0 / 6.0 * amplitude) * (1.0 + root) * decay
        laplacian = np.diag(slope.sum(axis=1)) - slope
        by_scale = 4.0 * self._features.T @ (laplacian @ z)
        n_numeric, n_axes = len(metric.numeric), len(metric.nominal)
        by_column = np.einsum("ij,ij->j", by_scale, scale)
        gradient = np.empty_like(whitened)
        gradient[:n_numeric] = -by_column[:n_numeric]
        column = n_numeric
        for k, levels in enumerate(
            n for n, is_nominal in zip(metric._levels, metric.nominal) if is_nominal
        ):
            gradient[n_numeric + k] = -by_column[column : column + levels].sum()
            column += levels
        gradient[n_axes] = amplitude * np.einsum("ij,ij->", outer, kernel)
        gradient[n_axes + 1] = noise * (np.diag(outer) / self._counts).sum()
        rows, columns = metric.shears[:, 0], metric.shears[:, 1]
        inverse_lengths = scale[columns, columns]
        gradient[n_axes + 2 :] = by_scale[rows, columns] * inverse_lengths
        return density + 0.5 * whitened @ whitened, gradient * self._prior_sd + whitened

    def _drawn(self, start: Array, rng: np.random.Generator, n_draws: int) -> list[Array]:
        """Elliptical slice sampling from the posterior of the whitened parameters."""
        draws = []
        state, level = start, self._log_likelihood(start)
        for step in range(n_draws * _THINNING):
            direction = rng.standard_normal(len(start))
            threshold = level + math.log(rng.random())
            angle = rng.uniform(0.0, 2.0 * math.pi)
            low, high = angle - 2.0 * math.pi, angle
            while True:
                candidate = state * math.cos(angle) + direction * math.sin(angle)
                reached = self._log_likelihood(candidate)
                if reached > threshold or high - low < 1e-6:
                    break
                low, high = (angle, high) if angle < 0.0 else (low, angle)
                angle = rng.uniform(low, high)
            state, level = candidate, reached
            if step % _THINNING == _THINNING - 1:
                draws.append(state)
        return draws


def _squared_distances(a: Array, b: Array) -> Array:
    squared = a @ (-2.0 * b.T)
    squared += np.einsum("ij,ij->i", a, a)[:, None]
    squared += np.einsum("ij,ij->i", b, b)
    return np.maximum(squared, 0.0, out=squared)


def _matern(squared: Array) -> Array:
    root = np.sqrt(5.0 * squared)
    kernel = 5.0 / 3.0 * squared
    kernel += root
    kernel += 1.0
    kernel *= np.exp(-root)
    return kernel
