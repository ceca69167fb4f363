"""How far a tuned balance can be carried over the batch size: ``results/batch_size.json`` and
``.png``.

From the grids in ``landscapes/``, with the batch sizes in ``landscapes/batch_size/``, the best
balance and temperature or margin of each batch size are taken. Then these settings, and those of
batch sizes 128 and 512 at all batch sizes, are trained again with seeds that no grid has used::

    python benchmarks/batch_size.py --cub DIR --flowers DIR --weights FILE --jobs 4

DIR are the folders of CUB-200 and, by class, of Oxford Flowers-102; FILE are weights of
tf_efficientnet_lite0. Needs kaleido and Chromium for the figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import json
from typing import Any

from batch_size_figure import draw
from carrying import at_edge
from carrying import best_balances
from carrying import drawn_optima
from carrying import Grid
from carrying import losses_between_sizes
from carrying import losses_by_power
from carrying import losses_of_the_balance
from carrying import near_optimal
from carrying import optima
from carrying import OTHER_SIZES
from carrying import recorded_grid
from carrying import REFERENCE
from carrying import tuned
import numpy as np
from record import RESULTS
from record import write_record
from record_landscape import Landscape
from record_landscape import RECORDED
from trainings import add_arguments
from trainings import trained
from trainings import Training

from cbal_optuna.interval import Interval
from cbal_optuna.objectives import carry_over
from cbal_optuna.objectives import SearchSpace


NAMES = (
    "cub_negatives",
    "cub_all",
    "cub_margin_all",
    "cub_margin_nonzero",
    "cub_margin_anchor_sum",
    "flowers_negatives",
    "flowers_all",
    "digits",
)
# No grid has used them.
SEEDS = range(1_000, 1_005)
CLASSES = {"infonce": "SplitInfoNCELoss", "margin": "SplitMarginLoss"}
FROM = (REFERENCE, 512)
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)

Setting = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    grids = {name: recorded_grid(name) for name in options.names}
    compared = {name: settings(RECORDED[name], grid) for name, grid in grids.items()}
    wanted = {name: trainings(RECORDED[name], compared[name]) for name in options.names}
    everything = dict.fromkeys(t for own in wanted.values() for t in own.values())
    rows = trained(list(everything), OTHER_SIZES / "trained_again.csv", options)
    scores = {t: row["map_at_r"] for t, row in zip(everything, rows)}
    results = [
        {
            "landscape": name,
            "dataset": RECORDED[name].dataset,
            "loss": RECORDED[name].loss,
            **RECORDED[name].variant,
            "recorded_seeds": grid.scores.shape[-1],
            "batch_sizes": grid.batch_sizes,
            "optima": moves(grid),
            "balance_at_fixed": at_fixed_second(grid),
            "lost_between_sizes": np.round(losses_between_sizes(grid), 4).tolist(),
            "lost_by_the_balance": np.round(losses_of_the_balance(grid), 4).tolist(),
            "lost_by_power": powers(grid),
            "fresh_seeds": judged(compared[name], wanted[name], scores),
        }
        for name, grid in grids.items()
    ]
    write_record(RESULTS / "batch_size.json", results)
    draw(results, RESULTS / "batch_size.png")
    print(table(results))


def settings(landscape: Landscape, grid: Grid) -> dict[tuple[str, int], Setting]:
    """By name and batch size, what is compared."""
    own = tuned(grid)
    result: dict[tuple[str, int], Setting] = {}
    for n in grid.batch_sizes:
        result["usual", n] = _usual(landscape)
        result["tuned", n] = own[n]
        for origin in FROM:
            result[f"carried from {origin}", n] = own[origin]
            result[f"scaled from {origin}", n] = by_rule(landscape, own[origin], origin, n)
    return {key: {**landscape.variant, **setting} for key, setting in result.items()}


def _usual(landscape: Landscape) -> Setting:
    """With InfoNCE the landscape's denominator, with the margin loss the usual aggregation."""
    names = {"balance", landscape.second} | ({"aggregation"} & landscape.variant.keys())
    return {k: v for k, v in SearchSpace(landscape.loss).usual.items() if k in names}


def by_rule(landscape: Landscape, setting: Setting, origin: int, to: int) -> Setting:
    """To four digits."""
    carried = carry_over({**landscape.variant, **setting}, origin, to)
    return {name: float(f"{carried[name]:.4g}") for name in setting}


def trainings(
    landscape: Landscape, compared: Mapping[tuple[str, int], Setting]
) -> dict[tuple[str, int, int], Training]:
    """By name, batch size and seed."""
    return {
        (name, n, seed): Training(
            landscape.dataset, CLASSES[landscape.loss], json.dumps(setting), n, seed, "validation"
        )
        for seed in SEEDS
        for (name, n), setting in compared.items()
    }


def moves(grid: Grid) -> list[dict[str, Any]]:
    """Of each batch size the optimum, with 95 % intervals, and how far it is from that of 128."""
    means = grid.scores.mean(axis=-1)
    draws = drawn_optima(grid)
    reference = grid.batch_sizes.index(REFERENCE)
    result = []
    for k, (n, best) in enumerate(zip(grid.batch_sizes, optima(grid, means))):
        own, drift = draws[:, k], draws[:, k] - draws[:, reference]
        axes = {}
        for axis, name in enumerate(("balance", grid.second)):
            axes[name] = {
                "optimum": round(float(best[axis]), 2),
                "interval": _interval(own[:, axis]),
                "drift_interval": _interval(drift[:, axis]),
                "within_1_percent": np.round(near_optimal(grid, means[:, :, k], axis), 2).tolist(),
            }
        result.append(
            {
                "batch_size": n,
                "setting": grid.setting(best),
                "at_edge": at_edge(grid, best),
                "positions": axes,
                "balance_by_temperature": _ratio(grid, own),
            }
        )
    return result


def _ratio(grid: Grid, draws: np.ndarray) -> list[float] | None:
    """The interval of balance / temperature in octaves."""
    return _interval(draws[:, 0] - draws[:, 1]) if grid.second == "temperature" else None


def _interval(values: np.ndarray) -> list[float]:
    return np.round(np.quantile(values, [0.025, 0.975]), 2).tolist()


def at_fixed_second(grid: Grid) -> dict[str, list[float]]:
    """The best balance in octaves by batch size, for each temperature or margin."""
    return {
        f"{value:g}": np.round(best_balances(grid, level), 2).tolist()
        for level, value in enumerate(grid.levels[1])
    }


def powers(grid: Grid) -> dict[str, dict[str, list[float]]] | None:
    """What other rules than the square root would lose."""
    if grid.second == "margin":
        return None
    return {f"{power:g}": losses_by_power(grid, power) for power in POWERS}


def judged(
    compared: Mapping[tuple[str, int], Setting],
    wanted: Mapping[tuple[str, int, int], Training],
    scores: Mapping[Training, float],
) -> list[dict[str, Any]]:
    """MAP@R with fresh seeds, and what is lost against the setting tuned at that batch size."""
    result = []
    for (name, n), setting in compared.items():
        own = np.array([scores[wanted[name, n, seed]] for seed in SEEDS])
        best = np.array([scores[wanted["tuned", n, seed]] for seed in SEEDS])
        result.append(
            {
                "name": name,
                "batch_size": n,
                "setting": setting,
                "map_at_r": _rounded(Interval.of(own)),
                "lost": _rounded(Interval.of(1 - own / best)),
            }
        )
    return result


def _rounded(interval: Interval) -> list[float]:
    return [round(interval.mean, 4), round(interval.half_width, 4)]


def table(results: Sequence[dict[str, Any]]) -> str:
    """What is lost by carrying, in per cent."""
    lines = []
    for result in results:
        for name in dict.fromkeys(row["name"] for row in result["fresh_seeds"]):
            rows = [row for row in result["fresh_seeds"] if row["name"] == name]
            cells = [f"{100 * mean:5.1f}±{100 * half:.1f}" for mean, half in _values(rows, name)]
            lines.append(f"{result['landscape']:22} {name:17} {' '.join(cells)}")
    return "\n".join(lines)


def _values(rows: Sequence[dict[str, Any]], name: str) -> list[list[float]]:
    return [row["map_at_r" if name == "tuned" else "lost"] for row in rows]


if __name__ == "__main__":
    main()
