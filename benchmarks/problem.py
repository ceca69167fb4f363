"""A function to be maximised over an Optuna search space, observed with noise, and its parameters
as positions on [0, 1]."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Mapping
import math
from typing import Any
from typing import TYPE_CHECKING
import zlib

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution


if TYPE_CHECKING:
    from optuna.trial import Trial

Params = dict[str, Any]
Space = dict[str, BaseDistribution]

_N_RANDOM = 1_000


class Problem(ABC):
    """A function to be maximised, whose optimum is known.

    Attributes:
        family:
            ``"synthetic"``, ``"bbob"`` or ``"landscape"``.
        name:
            Unique in its half.
        half:
            ``"development"`` or ``"reporting"``.
        space:
            All parameters, also those that only some trials have.
        start:
            The parameters of the first trial.
        optimum:
            The best value.
        median, lowest:
            Of 1,000 random points.
        zero:
            The value from which shares of the optimum are counted.
        noise:
            The standard deviation of an observation.
    """

    family: str

    def __init__(
        self,
        name: str,
        half: str,
        space: Space,
        start: Params,
        optimum: float,
        *,
        noise: float = 0.0,
    ) -> None:
        self.name = name
        self.half = half
        self.space = space
        self.start = start
        self.optimum = optimum
        self.noise = noise
        rng = stream(half, name)
        values = [self.value(at_random(space, rng)) for _ in range(_N_RANDOM)]
        self.median = float(np.median(values))
        self.lowest = min(values)
        self.zero = 0.0

    @abstractmethod
    def value(self, params: Mapping[str, Any]) -> float:
        """The value without noise. Parameters that are without effect here may be left out."""

    def suggest(self, trial: Trial) -> Params:
        """The parameters of a trial, which has only those that have an effect."""
        return {name: suggest(trial, name, d) for name, d in self.space.items()}

    @property
    def noise_level(self) -> float:
        """The noise as a share of the range from the lowest to the best value."""
        return self.noise / (self.optimum - self.lowest)

    def noises(self, seed: int, n_trials: int) -> np.ndarray:
        """What the trials of a run observe in addition, whatever their sampler."""
        return self.noise * stream(self.half, self.name, seed).standard_normal(n_trials)

    def regret(self, value: float) -> float:
        """0 at the optimum, 1 at the median of random points."""
        return max(0.0, (self.optimum - value) / (self.optimum - self.median))

    def is_within(self, value: float, share: float) -> bool:
        """Whether at most this share of the optimum, as counted from :attr:`zero`, is missing.

        For scores, whose zero is 0, this says ``value >= (1 - share) * optimum``.
        """
        return self.optimum - value <= share * (self.optimum - self.zero)


def stream(half: str, name: str, *seed: int) -> np.random.Generator:
    """The random numbers of a problem."""
    return np.random.default_rng([zlib.crc32(f"{half}/{name}".encode()), *seed])


def encode(distribution: BaseDistribution, value: Any) -> float:
    """The position of a value on [0, 1]; categories lie side by side."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / (len(distribution.choices) - 1)
    low, high = _bounds(distribution)
    if _is_log(distribution):
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def decode(distribution: BaseDistribution, position: float) -> Any:
    """The value nearest to a position on [0, 1]."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[round(position * (len(distribution.choices) - 1))]
    low, high = _bounds(distribution)
    value = low + position * (high - low)
    if _is_log(distribution):
        value = low * (high / low) ** position
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else value


def at_random(space: Space, rng: np.random.Generator) -> Params:
    return {
        name: d.choices[rng.integers(len(d.choices))]
        if isinstance(d, CategoricalDistribution)
        else decode(d, rng.random())
        for name, d in space.items()
    }


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    low, high = _bounds(distribution)
    log = _is_log(distribution)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, int(low), int(high), log=log)
    return trial.suggest_float(name, low, high, log=log)


def _bounds(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.low, distribution.high


def _is_log(distribution: BaseDistribution) -> bool:
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.log
