"""Synthetic scores shaped like those of contrastive losses."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import math
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from problem import decode
from problem import encode
from problem import Params
from problem import Problem
from problem import Space
from problem import stream
from problem import suggest


if TYPE_CHECKING:
    from optuna.trial import Trial

AXES: Space = {
    "balance": FloatDistribution(1 / 32, 32.0, log=True),
    "temperature": FloatDistribution(0.01, 1.0, log=True),
    "batch_size": IntDistribution(16, 1024, log=True),
    "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "margin": FloatDistribution(0.0, 2.0),
    "weight_decay": FloatDistribution(1e-7, 1e-2, log=True),
    "dropout": FloatDistribution(0.0, 0.8),
    "embedding_dim": IntDistribution(32, 1024, log=True),
}
BATCH_SIZES = CategoricalDistribution((16, 32, 64, 128, 256, 512, 1024))
# As shares of the range from the lowest to the best value.
NOISE_LEVELS = (0.0, 0.005, 0.1, 0.2, 0.4)
NOISY = ("separable_3", "strong_ridge_3", "cliff_3", "corner_3", "cliff_5")
STRONG_RIDGES = ("strong_ridge", "corner")

_MILD, _STRONG = 1.6, 4.0
_FLOOR, _CHANCE = 0.15, 0.02
_CLIFF_WIDTH = 0.04


class Surface(Problem):
    """A score with one optimum.

    Let u be the parameters on [0, 1], c where the optimum is, w a width for each axis, and
    z = (u - c) / w, rotated by a ridge and skewed. The score is
    0.15 + 0.85 (1 + |z|^2 / t)^(-t / 2), with 1 at the optimum, and falls to 0.02 beyond a cliff.

    Args:
        name, half:
            All that is drawn at random follows from both.
        space:
            At least two axes; the first two are those of ridges and cliffs.
        noise_level:
            The noise, as a share of the range.
        ridge:
            How many times narrower the optimum is across a direction of the first two axes than
            along it, relative to the widths.
        cliff:
            Whether the score falls to chance beyond a line near the optimum.
        plateau:
            Whether it is at chance everywhere but around the optimum.
        optimum:
            ``"inside"``; ``"bound"``: the score still rises at the end of one of the first two
            axes; ``"corner"``: at the end of both, where the ridge goes.
    """

    family = "synthetic"

    def __init__(
        self,
        name: str,
        half: str,
        space: Space,
        noise_level: float = 0.0,
        *,
        ridge: float = 1.0,
        cliff: bool = False,
        plateau: bool = False,
        optimum: str = "inside",
    ) -> None:
        rng = stream(half, name)
        n = len(space)
        self._axes = tuple(space.items())
        self._centre = np.array(
            [encode(d, decode(d, rng.uniform(0.2, 0.8))) for d in space.values()]
        )
        self._width = rng.uniform(0.18, 0.4, n) * np.where(np.arange(n) < 2, 1.0, 1.5)
        self._skew = rng.uniform(-0.35, 0.35, n)
        self._tail = rng.uniform(0.5, 2.0)
        self._ridge = ridge
        angle = math.atan(rng.uniform(0.6, 1.6))
        slope, side = rng.choice((-1, 1), 2)
        self._along = np.array([math.cos(angle), slope * math.sin(angle)])
        # By their distance from the optimum along the first two axes.
        self._walls = [(side, 0.4 * side, rng.uniform(0.1, 0.25))] if cliff else []
        if plateau:
            self._walls = [(side, 0.4 * side, 0.13), (-side, -0.4 * side, 0.3)]
            self._walls += [(0.0, 1.0, 0.25), (0.0, -1.0, 0.25)]
        end = int(rng.integers(2))
        if optimum == "bound":
            assert ridge == 1.0
            self._centre[int(rng.integers(2))] = 1.15 if end else -0.15
        elif optimum == "corner":
            self._centre[:2] = end, end if slope > 0 else 1 - end
        best = self._score(np.clip(self._centre, 0.0, 1.0))
        start = {n: decode(d, 0.5) for n, d in self._axes}
        super().__init__(name, half, space, start, best)
        self.noise = noise_level * (self.optimum - self.lowest)

    def value(self, params: Mapping[str, Any]) -> float:
        return self._score(np.array([encode(d, params[name]) for name, d in self._axes]))

    def _score(self, u: np.ndarray) -> float:
        z = (u - self._centre) / self._width
        if self._ridge > 1:
            (a, b), (cos, sin) = z[:2], self._along
            z[:2] = cos * a + sin * b, self._ridge * (cos * b - sin * a)
        z *= 1 + self._skew * np.tanh(z)
        score = _FLOOR + (1 - _FLOOR) * (1 + z @ z / self._tail) ** (-self._tail / 2)
        a, b = u[:2] - self._centre[:2]
        depths = (max(0.0, p * a + q * b - offset) for p, q, offset in self._walls)
        kept = math.exp(-sum((depth / _CLIFF_WIDTH) ** 2 for depth in depths))
        return float(_CHANCE + (score - _CHANCE) * kept)


class Choice(Problem):
    """A surface for each level of a nominal parameter, the best level's optimum being 1 and the
    others' at least 0.85.

    Args:
        name, half, noise_level:
            As those of :class:`Surface`.
        seconds:
            By level, the parameter that it has besides balance and batch size; the others' are
            left out by :meth:`suggest`.
    """

    family = "synthetic"

    def __init__(self, name: str, half: str, noise_level: float, seconds: dict[str, str]) -> None:
        self._names = {
            level: ("balance", second, "batch_size") for level, second in seconds.items()
        }
        self._surfaces = {
            level: Surface(f"{name}/{level}", half, _space(*names), ridge=_MILD)
            for level, names in self._names.items()
        }
        rng = stream(half, name)
        heights = rng.permutation(np.linspace(0.85, 1.0, len(seconds)))
        self._heights = dict(zip(seconds, map(float, heights)))
        names = [n for n in AXES if any(n in names for names in self._names.values())]
        space: Space = {"loss": CategoricalDistribution(tuple(seconds)), **_space(*names)}
        start: Params = {"loss": str(rng.choice(list(seconds)))}
        start |= {n: decode(space[n], 0.5) for n in self._names[start["loss"]]}
        super().__init__(name, half, space, start, 1.0)
        self.noise = noise_level * (self.optimum - self.lowest)

    def value(self, params: Mapping[str, Any]) -> float:
        loss = params["loss"]
        return self._heights[loss] * self._surfaces[loss].value(params)

    def suggest(self, trial: Trial) -> Params:
        params = {"loss": suggest(trial, "loss", self.space["loss"])}
        for name in self._names[params["loss"]]:
            params[name] = suggest(trial, name, self.space[name])
        return params


def surfaces(half: str) -> Iterator[Problem]:
    """Every kind of surface nearly without noise, and five of them at each level of noise."""
    for kind, (space, arguments) in _kinds().items():
        levels = NOISE_LEVELS if kind in NOISY else NOISE_LEVELS[1:2]
        for level in levels:
            yield Surface(f"{kind}_noise{level:g}", half, space, level, **arguments)
    choices = {
        "nominal_4": dict.fromkeys(("infonce", "margin", "triplet", "arcface"), "temperature"),
        "conditional_4": {"infonce": "temperature", "margin": "margin"},
    }
    for name, seconds in choices.items():
        yield Choice(f"{name}_noise{NOISE_LEVELS[1]:g}", half, NOISE_LEVELS[1], seconds)


def _kinds() -> dict[str, tuple[Space, dict[str, Any]]]:
    """The name says the number of axes."""
    two, three, five, six, eight = (dict(list(AXES.items())[:n]) for n in (2, 3, 5, 6, 8))
    return {
        "separable_3": (three, {}),
        "mild_ridge_3": (three, {"ridge": _MILD}),
        "strong_ridge_3": (three, {"ridge": _STRONG}),
        "cliff_3": (three, {"ridge": _MILD, "cliff": True}),
        "plateau_3": (three, {"ridge": _MILD, "plateau": True}),
        "ordered_3": ({**three, "batch_size": BATCH_SIZES}, {"ridge": _MILD}),
        "bound_3": (three, {"optimum": "bound"}),
        "corner_3": (three, {"ridge": _STRONG, "optimum": "corner"}),
        "strong_ridge_cliff_2": (two, {"ridge": _STRONG, "cliff": True}),
        "cliff_5": (five, {"ridge": _MILD, "cliff": True}),
        "separable_6": (six, {}),
        "mild_ridge_8": (eight, {"ridge": _MILD}),
    }


def _space(*names: str) -> Space:
    return {name: AXES[name] for name in names}
