"""A Gaussian process on all evaluations, with what is not known of its kernel integrated out.

A few draws of the kernel from its posterior, by elliptical slice sampling (Murray, Adams and
MacKay, 2010), stand for all that the few evaluations of a search leave open, above all how noisy
they are.

See Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), chapters 2 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from cbal_optuna.search.kernel import Kernel
from cbal_optuna.search.kernel import KernelPrior
from cbal_optuna.search.kernel import LITTLE_NOISE
from cbal_optuna.search.replicates import KnownNoise
from cbal_optuna.search.space import Space


Array = NDArray[np.float64]

# The prior variance of the mean of all values.
_MEAN_VARIANCE = 1.0
_JITTER = 1e-8

# Draws; fewer of a model of many points, which leave less open.
_N_DRAWS, _N_DRAWS_OF_MANY = 8, 3
_MANY = 60
_THINNING = 4
# Parameters are at most as many prior standard deviations from their prior means.
_FARTHEST = 5.0
# To find the most probable kernel; of many points, at their numerical limit the line searches of
# the last iterations take as much as all others.
_MAX_ITERATIONS, _MAX_EVALUATIONS_OF_MANY = 40, 60


@dataclass(frozen=True)
class Draw:
    """A kernel, and what follows from the evaluations under it."""

    kernel: Kernel
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
            How many observations each value is the mean of, of shape (n,); not always whole
            numbers.
        rng:
            Makes the draws.
        n_draws:
            Settings of the kernel, by default 3 to 8; 0 takes the most probable one alone.
        known_noise:
            What is known of how noisy an observation is, besides the prior.

    Attributes:
        draws:
            The settings, and what follows from each.
        trusting:
            The first of them, but for next to no noise: it believes every value.
    """

    def __init__(
        self,
        space: Space,
        points: Array,
        values: Array,
        counts: Array,
        rng: np.random.Generator,
        n_draws: int | None = None,
        known_noise: KnownNoise | None = None,
    ) -> None:
        self._prior = KernelPrior(space, known_noise)
        self._nominal = self._prior.nominal
        self._points = points
        self._values = values
        self._counts = counts
        if n_draws is None:
            n_draws = _N_DRAWS if len(points) <= _MANY else _N_DRAWS_OF_MANY
        best = self._most_probable()
        whitened = self._drawn(best, rng, n_draws) if n_draws else [best]
        self.draws = [self._conditioned(self._prior.kernel(z), values) for z in whitened]
        trusting = replace(self.draws[0].kernel, noise=LITTLE_NOISE)
        self.trusting = self._conditioned(trusting, values)

    @property
    def noise(self) -> float:
        """The standard deviation of one observation: the median over the draws."""
        return float(np.sqrt(np.median([draw.kernel.noise for draw in self.draws])))

    def believe(self, points: Array) -> None:
        """Add points under way, as if their values were what is expected now. To be done once."""
        means, _ = self.predict(points)
        trusted, _ = self.predict(points, [self.trusting])
        self._points = np.vstack([self._points, points])
        self._counts = np.concatenate([self._counts, np.ones(len(points))])
        self.trusting, *self.draws = (
            self._conditioned(draw.kernel, np.concatenate([self._values, mean]))
            for draw, mean in zip([self.trusting, *self.draws], [*trusted, *means])
        )

    def predict(self, points: Array, draws: Sequence[Draw] | None = None) -> tuple[Array, Array]:
        """Means and variances of the objective, noise apart: two arrays of shape (draws, n)."""
        draws = self.draws if draws is None else draws
        means = np.empty((len(draws), len(points)))
        variances = np.empty_like(means)
        for i, draw in enumerate(draws):
            squared = self._squared_distances(draw.kernel, points)
            cross = draw.kernel.amplitude * _matern(squared) + _MEAN_VARIANCE
            means[i] = cross @ draw.weights
            half, _ = lapack.dtrtrs(draw.factor, cross.T, lower=1)
            prior = draw.kernel.amplitude + _MEAN_VARIANCE
            variances[i] = np.maximum(prior - np.einsum("ij,ij->j", half, half), 1e-12)
        return means, variances

    def left_out(self) -> Array:
        """What is expected of each value by all others (Rasmussen and Williams, equation 5.12):
        the mean over the draws, of shape (n,). To be asked for before points under way are
        added."""
        means = np.empty((len(self.draws), len(self._values)))
        for i, draw in enumerate(self.draws):
            inverse, _ = lapack.dpotri(draw.factor, lower=1)
            means[i] = self._values - draw.weights / np.diag(inverse)
        return means.mean(axis=0)

    def _squared_distances(self, kernel: Kernel, points: Array) -> Array:
        """Between points and the evaluated ones."""
        own = self._points[:, ~self._nominal] @ kernel.scale
        squared = _squared_distances(points[:, ~self._nominal] @ kernel.scale, own)
        for j, mismatch in zip(np.flatnonzero(self._nominal).tolist(), kernel.mismatch):
            squared += mismatch * _differ(points, self._points, j)
        return squared

    def _factor(self, correlation: Array, kernel: Kernel) -> tuple[Array, int]:
        """The Cholesky factor of the covariance of the observations, and whether there is none."""
        covariance = kernel.amplitude * correlation
        covariance += _MEAN_VARIANCE
        covariance.flat[:: len(covariance) + 1] += kernel.noise / self._counts + _JITTER
        factor, failed = lapack.dpotrf(covariance.T, lower=1, overwrite_a=1)
        return factor, failed

    def _conditioned(self, kernel: Kernel, values: Array) -> Draw:
        correlation = _matern(self._squared_distances(kernel, self._points))
        factor, failed = self._factor(correlation, kernel)
        assert not failed
        weights, _ = lapack.dpotrs(factor, values, lower=1)
        return Draw(kernel, factor, weights)

    def _log_likelihood(self, whitened: Array) -> float:
        if np.abs(whitened).max() > _FARTHEST:
            return -math.inf
        kernel = self._prior.kernel(whitened)
        correlation = _matern(self._squared_distances(kernel, self._points))
        factor, failed = self._factor(correlation, kernel)
        if failed:
            return -math.inf
        half, _ = lapack.dtrtrs(factor, self._values, lower=1)
        return float(-0.5 * half @ half - np.log(np.diag(factor)).sum())

    def _most_probable(self) -> Array:
        """The whitened parameters of the highest posterior density."""
        start = np.zeros(len(self._prior.mean))
        options = {"maxiter": _MAX_ITERATIONS}
        if len(self._points) > _MANY:
            options["maxfun"] = _MAX_EVALUATIONS_OF_MANY
        found: Any = minimize(
            self._objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-_FARTHEST, _FARTHEST)] * len(start),
            options=options,
        )
        return np.asarray(found.x)

    def _objective(self, whitened: Array) -> tuple[float, Array]:
        """Negative log posterior density and its gradient."""
        kernel = self._prior.kernel(whitened)
        squared = self._squared_distances(kernel, self._points)
        root = np.sqrt(5.0 * squared)
        decay = np.exp(-root)
        correlation = (1.0 + root + root * root / 3.0) * decay
        factor, failed = self._factor(correlation, kernel)
        if failed:
            return 1e10, np.zeros_like(whitened)
        inverse, _ = lapack.dpotri(factor, lower=1)
        inverse += np.tril(inverse, -1).T
        weights = inverse @ self._values
        density = 0.5 * self._values @ weights + np.log(np.diag(factor)).sum()
        by_covariance = 0.5 * (inverse - np.outer(weights, weights))
        slope = -5.0 / 6.0 * kernel.amplitude * (1.0 + root) * decay
        by_square = by_covariance * slope
        numeric = self._points[:, ~self._nominal]
        laplacian = np.diag(by_square.sum(axis=1)) - by_square
        by_scale = 4.0 * numeric.T @ (laplacian @ (numeric @ kernel.scale))
        n_axes = len(self._nominal)
        gradient = np.empty_like(whitened)
        by_length = gradient[:n_axes]
        by_length[~self._nominal] = -np.einsum("ij,ij->j", by_scale, kernel.scale)
        by_length[self._nominal] = [
            -2.0 * mismatch * by_square[_differ(self._points, self._points, j)].sum()
            for j, mismatch in zip(np.flatnonzero(self._nominal).tolist(), kernel.mismatch)
        ]
        gradient[n_axes] = kernel.amplitude * np.einsum("ij,ij->", by_covariance, correlation)
        gradient[n_axes + 1] = kernel.noise * (np.diag(by_covariance) / self._counts).sum()
        by_shear = by_scale * np.diag(kernel.scale)
        gradient[n_axes + 2 :] = by_shear[self._prior.shears]
        return density + 0.5 * whitened @ whitened, gradient * self._prior.sd + whitened

    def _drawn(self, start: Array, rng: np.random.Generator, n_draws: int) -> list[Array]:
        """Elliptical slice sampling from the posterior of the whitened parameters."""
        draws = []
        state, level = start, self._log_likelihood(start)
        for step in range(n_draws * _THINNING):
            direction = rng.standard_normal(len(start))
            threshold = level + math.log(rng.random())
            angle = rng.uniform(0.0, 2.0 * math.pi)
            low, high = angle - 2.0 * math.pi, angle
            while high - low > 1e-6:
                candidate = state * math.cos(angle) + direction * math.sin(angle)
                reached = self._log_likelihood(candidate)
                if reached > threshold:
                    state, level = candidate, reached
                    break
                low, high = (angle, high) if angle < 0.0 else (low, angle)
                angle = rng.uniform(low, high)
            if step % _THINNING == _THINNING - 1:
                draws.append(state)
        return draws


def _squared_distances(a: Array, b: Array) -> Array:
    squared = a @ (-2.0 * b.T)
    squared += np.einsum("ij,ij->i", a, a)[:, None]
    squared += np.einsum("ij,ij->i", b, b)
    return np.maximum(squared, 0.0, out=squared)


def _differ(a: Array, b: Array, axis: int) -> NDArray[np.bool_]:
    """Whether points are at different levels of a nominal axis."""
    return a[:, axis, None] != b[:, axis]


def _matern(squared: Array) -> Array:
    root = np.sqrt(5.0 * squared)
    kernel = 5.0 / 3.0 * squared
    kernel += root
    kernel += 1.0
    kernel *= np.exp(-root)
    return kernel
