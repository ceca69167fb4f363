"""Landscapes of real trainings, as ``record_landscape.py`` records them."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from problem import encode
from problem import Params
from problem import Problem
from problem import Space
from scipy.interpolate import PchipInterpolator


LANDSCAPES = Path(__file__).parent / "landscapes"
# Grids of an earlier prototype, for development where they are at hand.
PROTOTYPE = Path(__file__).parents[2] / "shared" / "reference" / "landscapes"
DEVELOPMENT = ("flowers_negatives",)

_N_CELLS = 240


class Landscape(Problem):
    """The MAP@R to be expected from real trainings, between the settings of a recorded grid.

    Few seeds leave an error of about 1 % of the best in a setting's mean. So each mean is replaced
    by what a quadratic function of the three axes has there that is fitted to the 3 x 3 x 3
    settings around it. Between the settings balance and temperature or margin are interpolated by
    monotone cubics, which do not overshoot; batch size takes the recorded values only.

    The noise is what a training differs by when the means of its setting and of its seed are taken
    away, since the trials of a study share a seed.

    Args:
        path:
            The columns balance, temperature or margin, batch_size, seed, map_at_r, and others.
        half:
            ``"development"`` or ``"reporting"``.
        name:
            By default the file's.

    Raises:
        ValueError: Some trainings of the grid are missing.
    """

    family = "landscape"

    def __init__(self, path: Path, half: str, name: str | None = None) -> None:
        names, levels, scores = read_grid(path)
        bounds = [(float(values[0]), float(values[-1])) for values in levels]
        space: Space = {
            "balance": FloatDistribution(*bounds[0], log=True),
            names[1]: FloatDistribution(*bounds[1], log=names[1] == "temperature"),
            "batch_size": CategoricalDistribution([int(size) for size in levels[2]]),
        }
        self._axes = tuple(space.items())
        positions = [
            np.array([encode(d, value) for value in values])
            for (_, d), values in zip(self._axes, levels)
        ]
        table = smoothed(scores.mean(axis=3), positions)
        fine = np.linspace(0.0, 1.0, _N_CELLS + 1)
        for axis in (0, 1):
            table = PchipInterpolator(positions[axis], table, axis=axis)(fine)
        self._table = table
        super().__init__(
            name or path.stem,
            half,
            space,
            start=_start(names[1], path.stem),
            optimum=float(table.max()),
            noise=residual_sd(scores),
        )

    def value(self, params: Mapping[str, Any]) -> float:
        x, y, batch = (encode(d, params[name]) for name, d in self._axes)
        plane = self._table[:, :, round(batch * (self._table.shape[2] - 1))]
        i, j = (min(int(_N_CELLS * position), _N_CELLS - 1) for position in (x, y))
        x, y = _N_CELLS * x - i, _N_CELLS * y - j
        (low, high), (low_next, high_next) = plane[i : i + 2, j : j + 2]
        at_i = low + y * (high - low)
        return float(at_i + x * (low_next + y * (high_next - low_next) - at_i))


def landscapes(half: str) -> Iterator[Problem]:
    """All whose recording has been finished, when their description is written."""
    for path in sorted(LANDSCAPES.glob("*.csv")):
        own_half = "development" if path.stem in DEVELOPMENT else "reporting"
        if own_half == half and path.with_suffix(".json").exists():
            yield Landscape(path, half)
    if half == "development":
        for path in sorted(PROTOTYPE.glob("*.csv")):
            yield Landscape(path, half, f"prototype_{path.stem}")


def read_grid(path: Path) -> tuple[list[str], list[np.ndarray], np.ndarray]:
    """Names and levels of the three axes, and MAP@R by setting and seed.

    Raises:
        ValueError: Some trainings are missing.
    """
    names = path.read_text().partition("\n")[0].strip().split(",")
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    levels, indices = zip(*(np.unique(rows[:, i], return_inverse=True) for i in range(4)))
    scores = np.full([len(values) for values in levels], np.nan)
    scores[indices] = rows[:, names.index("map_at_r")]
    if n_missing := int(np.isnan(scores).sum()):
        raise ValueError(f"`path` is {path}, of whose grid {n_missing} trainings are missing.")
    return names[:3], list(levels[:3]), scores


def smoothed(table: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
    """The values at the centre of quadratic functions fitted to each value's neighbourhood."""
    result = np.empty_like(table)
    for index in np.ndindex(table.shape):
        starts = (min(max(i - 1, 0), n - 3) for i, n in zip(index, table.shape))
        block = [range(start, start + 3) for start in starts]
        here = [p[i] for p, i in zip(positions, index)]
        points = np.array([[p[i] for p, i in zip(positions, at)] for at in product(*block)]) - here
        products = [points[:, i] * points[:, j] for i in range(3) for j in range(i + 1)]
        design = np.column_stack([np.ones(len(points)), points, *products])
        result[index] = np.linalg.lstsq(design, table[np.ix_(*block)].ravel())[0][0]
    return result


def residual_sd(scores: np.ndarray) -> float:
    """What remains when a setting's and a seed's mean are taken away; seeds on the last axis."""
    table = scores.reshape(-1, scores.shape[-1])
    rest = table - table.mean(axis=1, keepdims=True)
    rest -= rest.mean(axis=0)
    n_settings, n_seeds = table.shape
    return float(np.sqrt((rest**2).sum() / ((n_settings - 1) * (n_seeds - 1))))


def _start(second: str, name: str) -> Params:
    """Where the studies of this package start."""
    if second == "temperature":
        return {"balance": 1.0, "temperature": 0.1, "batch_size": 128}
    if name == "cub_margin_all":
        return {"balance": 256.0, "margin": 0.4, "batch_size": 128}
    return {"balance": 1.0, "margin": 0.5, "batch_size": 128}
