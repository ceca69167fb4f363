"""How the best balance and temperature or margin move with the batch size, from recorded grids."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from itertools import product

import numpy as np
from recorded import LANDSCAPES
from recorded import read_grid
from scipy.interpolate import interpn


OTHER_SIZES = LANDSCAPES / "batch_size"
REFERENCE = 128
N_DRAWS = 200


@dataclass(frozen=True)
class Grid:
    """MAP@R on a grid of trainings.

    Attributes:
        second:
            ``"temperature"`` or ``"margin"``.
        batch_sizes:
            Ascending.
        levels:
            The balances, and the temperatures or margins.
        scores:
            By balance, temperature or margin, batch size and seed.
    """

    second: str
    batch_sizes: list[int]
    levels: tuple[np.ndarray, np.ndarray]
    scores: np.ndarray

    @property
    def positions(self) -> list[np.ndarray]:
        """The levels in octaves, margins as they are."""
        balances, seconds = self.levels
        return [np.log2(balances), np.log2(seconds) if self.second == "temperature" else seconds]

    def setting(self, position: np.ndarray) -> dict[str, float]:
        """The setting at a position, to four digits."""
        second = 2.0 ** position[1] if self.second == "temperature" else position[1]
        return {
            "balance": float(f"{2.0 ** position[0]:.4g}"),
            self.second: float(f"{second:.4g}"),
        }


def recorded_grid(name: str) -> Grid:
    """What ``record_landscape.py`` wrote, with the batch sizes that are not searched."""
    paths = [p / f"{name}.csv" for p in (LANDSCAPES, OTHER_SIZES)]
    parts = [read_grid(path) for path in paths if path.exists()]
    names, (balances, seconds, _), _ = parts[0]
    sizes = np.concatenate([levels[2] for _, levels, _ in parts]).astype(int)
    scores = np.concatenate([part[2] for part in parts], axis=2)
    order = np.argsort(sizes)
    return Grid(names[1], sizes[order].tolist(), (balances, seconds), scores[:, :, order])


def tuned(grid: Grid) -> dict[int, dict[str, float]]:
    """The best setting of the grid by batch size."""
    planes = np.moveaxis(grid.scores.mean(axis=-1), 2, 0)
    best = [[p[i] for p, i in zip(grid.positions, _best(plane))] for plane in planes]
    return {n: grid.setting(np.array(x)) for n, x in zip(grid.batch_sizes, best)}


def optimum(table: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
    """Where a table by balance and temperature or margin is highest, on each axis refined with the
    other one held."""
    i, j = _best(table)
    return np.array([_peak(positions[0], table[:, j]), _peak(positions[1], table[i])])


def optima(grid: Grid, scores: np.ndarray) -> np.ndarray:
    """Positions of the optima, (n_batch_sizes, 2), of scores without a seed axis."""
    return np.array([optimum(plane, grid.positions) for plane in np.moveaxis(scores, 2, 0)])


def drawn_optima(grid: Grid, seed: int = 0) -> np.ndarray:
    """Optima as they might have been with other seeds, (n_draws, n_batch_sizes, 2).

    A bootstrap: to each setting's mean are added as many residuals as there are seeds, drawn from
    those of the same batch size, less what the seed shifts all settings by.
    """
    rng = np.random.default_rng(seed)
    n_seeds = grid.scores.shape[-1]
    means = grid.scores.mean(axis=-1)
    # Noise differs between good and bad settings; only among the good ones is the optimum decided.
    good = means > 0.9 * means.max(axis=(0, 1))
    draws = np.repeat(means[None], N_DRAWS, axis=0)
    for k in range(len(grid.batch_sizes)):
        rest = grid.scores[:, :, k][good[:, :, k]]
        rest = rest - rest.mean(axis=1, keepdims=True)
        rest -= rest.mean(axis=0)
        rest *= np.sqrt(n_seeds / (n_seeds - 1))
        size = (*draws.shape[:3], n_seeds)
        draws[..., k] += rng.choice(rest.ravel(), size).mean(axis=-1)
    return np.array([optima(grid, draw) for draw in draws])


def at_edge(grid: Grid, position: np.ndarray) -> list[str]:
    """The axes on whose end the position lies."""
    names = ("balance", grid.second)
    ends = [(p[0], p[-1]) for p in grid.positions]
    return [n for n, x, end in zip(names, position, ends) if np.isclose(x, end).any()]


def near_optimal(grid: Grid, table: np.ndarray, axis: int, share: float = 0.99) -> list[float]:
    """Between which levels of an axis the best over the other one is at least `share` of the best
    of all, linear between the levels."""
    profile = table.max(axis=1 - axis)
    fine = np.linspace(grid.positions[axis][0], grid.positions[axis][-1], 601)
    good = fine[np.interp(fine, grid.positions[axis], profile) >= share * profile.max()]
    return [float(good[0]), float(good[-1])]


def best_balances(grid: Grid, level: int) -> np.ndarray:
    """By batch size, the best balance in octaves with temperature or margin held at a level."""
    x = grid.positions[0]
    tables = np.moveaxis(grid.scores.mean(axis=-1), 2, 0)
    return np.array([_peak(x, t[:, level]) for t in tables])


def losses_between_sizes(grid: Grid) -> np.ndarray:
    """What is lost, as a share of the score, where a setting tuned at one batch size is used at
    another: rows from, columns to.

    Tuned on all seeds but one, on the grid's settings, and scored on that one; the mean over the
    seeds left out.
    """
    n_sizes, n_seeds = grid.scores.shape[2:]
    losses = np.zeros((n_seeds, n_sizes, n_sizes))
    for left_out in range(n_seeds):
        means = np.delete(grid.scores, left_out, axis=-1).mean(axis=-1)
        best = [_best(plane) for plane in np.moveaxis(means, 2, 0)]
        for i, k in product(range(n_sizes), repeat=2):
            own = grid.scores[(*best[k], k, left_out)]
            losses[left_out, i, k] = 1 - grid.scores[(*best[i], k, left_out)] / own
    return losses.mean(axis=0)


def losses_of_the_balance(grid: Grid) -> np.ndarray:
    """What is lost where only the balance is carried over from batch size 128, with temperature or
    margin held: by level of it and batch size, as :func:`losses_between_sizes`."""
    reference = grid.batch_sizes.index(REFERENCE)
    *_, n_sizes, n_seeds = grid.scores.shape
    losses = np.zeros((n_seeds, len(grid.levels[1]), n_sizes))
    for left_out in range(n_seeds):
        best = np.delete(grid.scores, left_out, axis=-1).mean(axis=-1).argmax(axis=0)
        for j, k in product(*(range(n) for n in best.shape)):
            own, carried = grid.scores[[best[j, k], best[j, reference]], j, k, left_out]
            losses[left_out, j, k] = 1 - carried / own
    return losses.mean(axis=0)


def losses_by_power(grid: Grid, power: float) -> dict[str, list[float]]:
    """Mean and largest loss over all pairs of batch sizes, to smaller and to larger ones, where
    balance and temperature are carried over times a power of the ratio of the batch sizes.

    As :func:`losses_between_sizes`, but linear between the settings and no farther than them.
    """
    sizes = np.log2(grid.batch_sizes)
    losses: dict[str, list[float]] = {"smaller": [], "larger": []}
    for left_out in range(grid.scores.shape[-1]):
        means = np.delete(grid.scores, left_out, axis=-1).mean(axis=-1)
        best = [_best(plane) for plane in np.moveaxis(means, 2, 0)]
        for i, k in permutations(range(len(sizes)), 2):
            shift = power * (sizes[k] - sizes[i])
            point = [np.clip(p[at] + shift, p[0], p[-1]) for p, at in zip(grid.positions, best[i])]
            scores = grid.scores[:, :, k, left_out]
            own = scores[best[k]]
            carried = interpn(grid.positions, scores, point).item()
            losses["smaller" if k < i else "larger"].append(1 - carried / own)
    return {to: [float(np.mean(values)), max(values)] for to, values in losses.items()}


def _peak(x: np.ndarray, values: np.ndarray) -> float:
    """The top of the parabola through the highest of the values and its neighbours, at most half a
    level away from it."""
    best = int(values.argmax())
    i = min(max(best, 1), len(x) - 2)
    a, b, _ = np.polyfit(x[i - 1 : i + 2], values[i - 1 : i + 2], 2)
    top = -b / (2 * a) if a < 0 else x[best]
    low, high = (x[best] + x[max(best - 1, 0)]) / 2, (x[best] + x[min(best + 1, len(x) - 1)]) / 2
    return float(np.clip(top, low, high))


def _best(table: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(table.argmax(), table.shape))
