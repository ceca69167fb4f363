"""What the evaluations say about the objective, in its own unit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.special import ndtr
from scipy.stats import norm

from cbal_optuna.search.history import History
from cbal_optuna.search.scale import Scale
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space
from cbal_optuna.search.surrogate import Surrogate


Array = NDArray[np.float64]

_LARGEST = float(np.finfo(float).max)
# The model is of this many points at most: the best ones, and those nearest to the best.
MAX_POINTS = 100
# The weight of a model without noise beside each draw.
_TRUST = 0.05
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_LOG_ROOT = 0.5 * math.log(2.0 * math.pi)
_QUANTILES = norm.ppf((np.arange(200) + 0.5) / 200)


class Response:
    """The posterior over the objective, given all evaluations.

    Points that cannot be used are modelled as being as bad as the worst that can.

    Args:
        history:
            The finished trials, one of them finite at least.
        pending:
            Points under way: taken to turn out as expected.
        space:
            The search space.
        seed:
            Of the draws that stand for what is not known of the model.
    """

    def __init__(
        self, history: History, pending: Collection[Point], space: Space, seed: int
    ) -> None:
        points, values, counts = _selected(history)
        self._scale = Scale(values)
        rng = np.random.default_rng([seed, len(history)])
        transformed = self._scale.transform(values)
        noise = history.known_noise
        self._noise_is_known = noise is not None
        if noise is not None:
            # Where the scale is flatter, noise is less on it.
            counts = counts * self._scale.flatness(values) ** 2
            sd = math.sqrt(noise.variance) * self._scale.slope
            noise = replace(noise, variance=float(sd**2))
        self.surrogate = Surrogate(space, points, transformed, counts, rng, known_noise=noise)
        self._skill = _skill(transformed, self.surrogate.left_out())
        under_way = np.array(sorted(pending)).reshape(-1, len(space.axes))
        if len(under_way):
            self.surrogate.believe(under_way)
        self.points = np.vstack([points, under_way])
        means, _ = self.surrogate.predict(self.points)
        ranked = np.argsort(-means.mean(axis=0), kind="stable")
        self.ranked = self.points[ranked]
        # Under each draw.
        self._best = means.max(axis=1)
        trusted, _ = self.surrogate.predict(self.points, [self.surrogate.trusting])
        self._trusted_best = float(trusted.max())

    @property
    def incumbent(self) -> Array:
        """The point that is expected to be best of those evaluated or under way: not the luckiest
        one."""
        return self.ranked[0]

    @property
    def skill(self) -> float:
        """How much of the differences between values the model predicts from the others: 1 is all,
        0 what their mean does (the coefficient of determination, each point left out in turn)."""
        return self._skill

    @property
    def noise(self) -> float:
        """The standard deviation of one observation next to the incumbent."""
        if self._noise_is_known:
            return float(self.surrogate.noise / self._scale.slope)
        best = self._best.mean(keepdims=True)
        lower = self._scale.restore(best - self.surrogate.noise)
        return float((self._scale.restore(best) - lower)[0])

    def log_expected_improvement(self, points: Array) -> Array:
        """The augmented expected improvement (Huang, Allen, Notz and Zeng, 2006) of points of
        shape (n, number of axes), on the scale of the model: its log, up to a constant.

        It is the expected improvement over the incumbent's expected value, times the share of what
        is not known of a point that a noisy trial there would tell: a step too short for noise to
        tell apart from points known already promises little.

        A little of it is that of a model that takes every value for what it is: a value so good
        that the other draws blame the noise is looked into, if little else is promised.
        """
        means, variances = self.surrogate.predict(points)
        sds = np.sqrt(variances)
        noises = np.array([[draw.kernel.noise] for draw in self.surrogate.draws])
        logs = _log_improvement((means - self._best[:, None]) / sds) + np.log(sds)
        logs += np.log1p(-np.sqrt(noises / (variances + noises)))
        (mean,), (variance,) = self.surrogate.predict(points, [self.surrogate.trusting])
        sd = np.sqrt(variance)
        trusting = _log_improvement((mean - self._trusted_best) / sd) + np.log(sd)
        return np.logaddexp.reduce([*logs, trusting + math.log(_TRUST)], axis=0)

    def expected_improvement(self, point: Point) -> float:
        """By how much a point is expected to be better than the incumbent, where it is."""
        means, variances = self.surrogate.predict(np.array([point]))
        values = self._scale.restore(means + np.sqrt(variances) * _NODES)
        best = self._scale.restore(self._best)[:, None]
        return float((np.maximum(values - best, 0.0) @ _WEIGHTS).mean())

    def expected_values(self, points: Array) -> Array:
        """The means of the objective at points of shape (n, number of axes)."""
        means, variances = self.surrogate.predict(points)
        nodes = means[..., None] + np.sqrt(variances)[..., None] * _NODES
        return (self._scale.restore(nodes) @ (_WEIGHTS / len(nodes))).sum(axis=0)

    def interval(self, point: Point, level: float = 0.95) -> tuple[float, float]:
        """Between which values the objective at a point lies, noise apart, with this
        probability."""
        means, variances = self.surrogate.predict(np.array([point]))
        values = self._scale.restore(means + np.sqrt(variances) * _QUANTILES)
        low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
        return float(low), float(high)


def _selected(history: History) -> tuple[Array, Array, Array]:
    """Points, finite values and numbers of observations."""
    points, values, counts = history.arrays
    finite = values[np.isfinite(values)]
    # What is infinitely good is better than the rest by as much as the best is than the worst.
    lowest, highest = float(finite.min()), float(finite.max())
    beyond = min(highest + (highest - lowest or 1.0), _LARGEST)
    values = np.where(values == math.inf, beyond, np.maximum(values, lowest))
    if len(values) <= MAX_POINTS:
        return points, values, counts
    best = _first(-values, MAX_POINTS // 2)
    nearest = _first(((points - points[best[0]]) ** 2).sum(axis=1), MAX_POINTS)
    kept = sorted(list(dict.fromkeys([*best, *nearest]))[:MAX_POINTS])
    return points[kept], values[kept], counts[kept]


def _first(keys: Array, n: int) -> list[int]:
    """The indices of the n smallest, in ascending order, the earlier of equals first."""
    candidates = np.flatnonzero(keys <= np.partition(keys, n - 1)[n - 1])
    return candidates[np.argsort(keys[candidates], kind="stable")][:n].tolist()


def _skill(values: Array, predicted: Array) -> float:
    n = len(values)
    if n < 2 or np.ptp(values) == 0.0:
        return 0.0
    means = (values.sum() - values) / (n - 1)
    return float(1.0 - ((values - predicted) ** 2).sum() / ((values - means) ** 2).sum())


def _log_improvement(z: Array) -> Array:
    """The log of ``phi(z) + z Phi(z)``, exact far below 0 too (Ament et al., "Unexpected
    Improvements to Expected Improvement", 2023)."""
    below, far = np.minimum(z, -1.0), np.minimum(z, -25.0)
    ratio = np.exp(log_ndtr(below) + 0.5 * below * below + _LOG_ROOT)
    tail = np.where(z > -25.0, np.log1p(below * np.where(z > -25.0, ratio, 0.0)), 0.0)
    tail = np.where(z > -25.0, tail, np.log1p(-3.0 / far**2) - 2.0 * np.log(-far))
    above = np.maximum(z, -1.0)
    direct = np.log(np.exp(-0.5 * above * above - _LOG_ROOT) + above * ndtr(above))
    return np.where(z > -1.0, direct, tail - 0.5 * z * z - _LOG_ROOT)
