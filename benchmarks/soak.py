"""Thousands of short trials by several workers on PostgreSQL: whether one is lost or evaluated
twice, and whether processes grow, into ``results/soak.json``.

::

    OMP_NUM_THREADS=1 python benchmarks/soak.py --storage postgresql://USER@HOST/DATABASE

The database should have no study called ``soak``. A process has grown by what its memory was in
the last tenth of its trials more than in the second one.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
import statistics
import time
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from record import RESULTS
from record import write_record
from stand_in import MEMORY_MB
from stand_in import memory_mb
from stand_in import PROCESS
from stand_in import StandIn

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.sampler import EXPLANATION
from cbal_optuna.storage import open_storage
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers import Workers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage", required=True, metavar="URL")
    parser.add_argument("--trials", type=int, default=5_000, metavar="N")
    parser.add_argument("--workers", type=int, default=8, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.05, help="that a trial sleeps")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(options.storage)
    study = optuna.create_study(
        study_name="soak",
        storage=storage,
        direction="maximize",
        sampler=CoordinateDescentSampler(seed=0),
    )
    objective: Any = StandIn(options.seconds)
    parent: list[float] = []
    start = time.monotonic()
    with Workers(objective, storage, options.workers) as workers:
        run_trials_with(
            workers,
            study,
            objective,
            options.trials,
            between=lambda: parent.append(memory_mb()),
        )
    results = {
        "workers": options.workers,
        "trials": options.trials,
        "seconds": round(time.monotonic() - start, 1),
        **counts(study.get_trials(deepcopy=False), options.trials),
        "memory_mb": {"parent": growth(parent), **growths(study.get_trials(deepcopy=False))},
    }
    write_record(RESULTS / "soak.json", results)
    print(results)


def counts(trials: Sequence[FrozenTrial], n_wanted: int) -> dict[str, int]:
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    # Those that the search has asked for a second time are none.
    points = Counter(
        tuple(sorted(t.params.items()))
        for t in complete
        if t.user_attrs.get(EXPLANATION, {}).get("line") != "repeat"
    )
    return {
        "complete": len(complete),
        "lost": n_wanted - len(complete),
        "unfinished": sum(not t.state.is_finished() for t in trials),
        "failed": sum(t.state == TrialState.FAIL for t in trials),
        "missing_numbers": len(set(range(len(trials))) - {t.number for t in trials}),
        "duplicates": sum(n - 1 for n in points.values()),
    }


def growths(trials: Sequence[FrozenTrial]) -> dict[str, dict[str, float]]:
    """Of each worker that has ended some trials."""
    memory: dict[int, list[float]] = {}
    for trial in sorted(trials, key=lambda t: t.datetime_complete or t.datetime_start):
        if PROCESS in trial.user_attrs:
            memory.setdefault(trial.user_attrs[PROCESS], []).append(trial.user_attrs[MEMORY_MB])
    return {f"worker {i}": growth(found) for i, found in enumerate(memory.values())}


def growth(memory: Sequence[float]) -> dict[str, float]:
    tenth = max(1, len(memory) // 10)
    warm, end = statistics.median(memory[tenth : 2 * tenth]), statistics.median(memory[-tenth:])
    return {
        "after_a_tenth": round(warm, 1),
        "at_the_end": round(end, 1),
        "growth_percent": round(100 * (end / warm - 1), 1),
    }


if __name__ == "__main__":
    main()
