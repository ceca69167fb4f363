"""What it saves to end trials before their last fold, and whether the search finds less: writes
``results/pruning.json``.

::

    python benchmarks/pruning.py --cub DIR --weights FILE --jobs 2

DIR is the folder of CUB-200; FILE are weights of tf_efficientnet_lite0. Each seed, of the search
and of its trainings, has a head-only search with four folds that ends trials early and one that
does not; what both recommend is trained again on all folds with a fresh seed. Running again goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
import json
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from record import RESULTS
from record import write_record

from cbal_optuna.data import CUB200
from cbal_optuna.interval import Interval
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import Setting
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.summary import recommended_trial
from cbal_optuna.training import TrainingOptions


RUNS = Path(__file__).parent / "runs" / "pruning"
KINDS = {"whole": False, "pruned": True}
N_TRIALS = 20
FRESH_SEED = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, metavar="DIR", required=True)
    parser.add_argument("--weights", type=Path, metavar="FILE", required=True)
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="seeds at a time")
    options = parser.parse_args()
    objective = objective_of(0, False, options)
    objective.prepare()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        runs = list(pool.map(kept_run, range(options.seeds), [options] * options.seeds))
    result = summary(runs)
    write_record(
        RESULTS / "pruning.json",
        {"objective": objective.description, "summary": result, "runs": runs},
    )
    for name, value in result.items():
        print(name, value)


def objective_of(seed: int, prune: bool, options: argparse.Namespace) -> RetrievalObjective:
    return RetrievalObjective(
        CUB200(options.cub),
        backbone="tf_efficientnet_lite0",
        weights=options.weights,
        head_only=True,
        image_size=128,
        folds=4,
        prune=prune,
        training=TrainingOptions(samples=10_000, n_evaluations=1),
        seed=seed,
    )


def kept_run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    path = RUNS / f"{seed}.json"
    if not path.exists():
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        RUNS.mkdir(parents=True, exist_ok=True)
        run = {name: searched(seed, prune, options) for name, prune in KINDS.items()}
        path.write_text(json.dumps({"seed": seed, **run}))
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def searched(seed: int, prune: bool, options: argparse.Namespace) -> dict[str, Any]:
    """A search, and how good what it recommends is."""
    objective = objective_of(seed, prune, options)
    study = open_study("study", InMemoryStorage(), objective, "cd", seed)
    run_trials(study, objective, N_TRIALS)
    setting = recommended_trial(study).params
    return {
        "params": [trial.params for trial in study.trials],
        "values": [trial.user_attrs["values"] for trial in study.trials],
        "recommended": setting,
        "fresh": fresh_value(objective, setting, seed + FRESH_SEED),
    }


def fresh_value(objective: RetrievalObjective, setting: Setting, seed: int) -> float:
    whole = objective.space.completed(setting)
    divisions = objective.divisions(VALIDATION)
    return float(np.mean([objective.run(whole, *d, seed=seed).value for d in divisions]))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds with half the widths of their 95 % intervals."""
    trainings = {k: [sum(map(len, r[k]["values"])) for r in runs] for k in KINDS}
    fresh = {k: np.array([r[k]["fresh"] for r in runs]) for k in KINDS}
    return {
        "trainings": trainings,
        "fresh": {k: interval(v) for k, v in fresh.items()},
        "fresh_difference": interval(fresh["pruned"] - fresh["whole"]),
    }


def interval(values: np.ndarray) -> list[float]:
    of = Interval.of(values)
    return [round(of.mean, 4), round(of.half_width, 4)]


if __name__ == "__main__":
    main()
