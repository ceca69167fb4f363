"""What it saves to start where another recorded landscape has its optimum: simulated searches on
the landscapes of ``record_landscape.py``; writes ``results/warm_start_recorded.json``.

::

    python benchmarks/warm_start_recorded.py

``digits`` was trained end to end, the others head-only. The first trial is the usual setting in
both searches; regrets are those of the setting that is expected to be the best, 0 at the optimum
and 1 at the median of the space.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from problem import decode
from problem import Params
from record import RESULTS
from record import write_record
from recorded import Landscape
from recorded import LANDSCAPES

from cbal_optuna.interval import Interval
from cbal_optuna.search import DescentOptions
from cbal_optuna.search import History
from cbal_optuna.search import next_point
from cbal_optuna.search import Response
from cbal_optuna.search import Space


PAIRS = (
    ("cub_negatives", "flowers_negatives"),
    ("flowers_negatives", "cub_negatives"),
    ("cub_all", "flowers_all"),
    ("flowers_all", "cub_all"),
    ("cub_negatives", "digits"),
    ("flowers_negatives", "digits"),
)
JUDGED_AFTER = (5, 10, 15)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="default: %(default)s")
    n_seeds = parser.parse_args().seeds
    results = []
    for source, target in PAIRS:
        results.append(compared(source, target, n_seeds))
        print(results[-1], flush=True)
    write_record(RESULTS / "warm_start_recorded.json", results)


def compared(source: str, target: str, n_seeds: int) -> dict[str, Any]:
    """Mean regrets from the usual start and from the optimum of another landscape, and their
    differences with half the widths of the 95 % intervals."""
    landscape = recorded(target)
    starts = {"usual": landscape.start, "warm": optimum(recorded(source))}
    regrets = {
        name: np.array([searched(landscape, start, seed) for seed in range(n_seeds)])
        for name, start in starts.items()
    }
    differences = [Interval.of(column) for column in (regrets["warm"] - regrets["usual"]).T]
    return {
        "from": source,
        "to": target,
        "regret_of_start": {
            name: round(landscape.regret(landscape.value(s)), 3) for name, s in starts.items()
        },
        "trials": JUDGED_AFTER,
        **{name: values.mean(axis=0).round(3).tolist() for name, values in regrets.items()},
        "difference": [[round(d.mean, 3), round(d.half_width, 3)] for d in differences],
    }


def recorded(name: str) -> Landscape:
    return Landscape(LANDSCAPES / f"{name}.csv", "reporting")


def optimum(landscape: Landscape) -> Params:
    """The best setting of the finely interpolated grid."""
    lines = [np.linspace(0.0, 1.0, 41), np.linspace(0.0, 1.0, 41), np.linspace(0.0, 1.0, 5)]
    axes = landscape.space.items()
    settings = [
        {name: decode(d, p) for (name, d), p in zip(axes, point)}
        for point in np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 3).tolist()
    ]
    return max(settings, key=landscape.value)


def searched(landscape: Landscape, start: Params, seed: int) -> list[float]:
    space = Space.of(landscape.space)
    first = space.encode(start)
    usual = space.encode(landscape.start)
    assert first is not None and usual is not None
    options = DescentOptions(start=first, order=(0, 1, 2), seed=seed)
    noises = landscape.noises(seed, JUDGED_AFTER[-1])
    history = History([(0, usual, landscape.value(landscape.start) + noises[0])])
    regrets = []
    for number in range(1, JUDGED_AFTER[-1]):
        point = next_point(history, (), space, options).point
        history.add(number, point, landscape.value(space.decode(point)) + noises[number])
        if number + 1 in JUDGED_AFTER:
            best = space.snap(Response(history, (), space, 0).incumbent.tolist())
            regrets.append(landscape.regret(landscape.value(space.decode(best))))
    return regrets


if __name__ == "__main__":
    main()
