"""What a head-only search saves the end-to-end search that starts from its result: writes
``results/warm_start.json``.

::

    python benchmarks/warm_start.py --flowers DIR --weights FILE --jobs 2

DIR is the folder of Oxford Flowers-102, by class; FILE are weights of mobilenetv2_100. Every seed,
of the searches and of their trainings, has a search of the head on frozen features, and two of the
whole network: one from the usual start, one from what the head-only search recommends. What a
search recommends after some trials is trained again with a fresh seed, the same for both. Running
again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
import json
from multiprocessing import get_context
from pathlib import Path
import time
from typing import Any

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from record import RESULTS
from record import write_record

from cbal_optuna.data import ImageFolder
from cbal_optuna.interval import Interval
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import Setting
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.summary import recommended_trial
from cbal_optuna.training import TrainingOptions
from cbal_optuna.warm_start import recorded_start


RUNS = Path(__file__).parent / "runs" / "warm_start"
SAMPLES = {"head": 10_000, "whole": 2_000}
N_TRIALS = {"head": 20, "whole": 8}
STARTS = {"usual": None, "warm": "head"}
JUDGED_AFTER = (2, 4, 8)
FRESH_SEED = 1_000
# Of the best value that either search has found.
NEAR = 0.98


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flowers", type=Path, metavar="DIR", required=True)
    parser.add_argument("--weights", type=Path, metavar="FILE", required=True)
    parser.add_argument("--seeds", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="seeds at a time")
    options = parser.parse_args()
    for part in SAMPLES:
        objective_of(part, 0, options).prepare()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        runs = list(pool.map(kept_run, range(options.seeds), [options] * options.seeds))
    results = {
        "objective": objective_of("whole", 0, options).description,
        "samples": SAMPLES,
        "summary": summary(runs),
        "runs": runs,
    }
    write_record(RESULTS / "warm_start.json", results)
    for name, value in results["summary"].items():
        print(name, value)


def objective_of(part: str, seed: int, options: argparse.Namespace) -> RetrievalObjective:
    return RetrievalObjective(
        ImageFolder(options.flowers),
        backbone="mobilenetv2_100",
        weights=options.weights,
        head_only=part == "head",
        image_size=32,
        training=TrainingOptions(samples=SAMPLES[part], n_evaluations=1),
        seed=seed,
    )


def kept_run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    path = RUNS / f"{seed}.json"
    if not path.exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run(seed, options)))
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The three searches of a seed, and their recommendations with fresh seeds."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = InMemoryStorage()
    begun = time.perf_counter()
    head = objective_of("head", seed, options)
    run_trials(open_study("head", storage, head, "cd", seed), head, N_TRIALS["head"])
    result: dict[str, Any] = {"seed": seed, "head_seconds": round(time.perf_counter() - begun, 1)}
    whole = objective_of("whole", seed, options)
    known: dict[tuple[Any, ...], float] = {}
    for name, start_from in STARTS.items():
        study = open_study(name, storage, whole, "cd", seed, start_from=start_from)
        run_trials(study, whole, N_TRIALS["whole"])
        result[name] = searched(study, whole, known)
    start = recorded_start(study)
    assert start is not None
    return {**result, "start": start.setting}


def searched(
    study: optuna.Study, objective: RetrievalObjective, known: dict[tuple[Any, ...], float]
) -> dict[str, Any]:
    """What a search has done, and how good its recommendations are."""
    fresh = {}
    for n in JUDGED_AFTER:
        until_then = optuna.create_study(direction="maximize")
        until_then.add_trials(study.trials[:n])
        setting = recommended_trial(until_then).params
        key = tuple(setting.values())
        if key not in known:
            known[key] = fresh_value(objective, setting)
        fresh[str(n)] = round(known[key], 5)
    durations = [trial.duration for trial in study.trials]
    return {
        "params": [trial.params for trial in study.trials],
        "values": [round(trial.values[0], 5) for trial in study.trials],
        "seconds": [round(d.total_seconds(), 1) for d in durations if d is not None],
        "fresh": fresh,
    }


def fresh_value(objective: RetrievalObjective, setting: Setting) -> float:
    (division,) = objective.divisions(VALIDATION)
    whole = objective.space.completed(setting)
    return objective.run(whole, *division, seed=objective.seed + FRESH_SEED).value


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds with their 95 % intervals; differences are those of warm less usual."""
    result: dict[str, Any] = {"head_seconds": interval([r["head_seconds"] for r in runs])}
    result["start_better_than_usual"] = interval(
        [r["warm"]["values"][1] - r["warm"]["values"][0] for r in runs]
    )
    for n in JUDGED_AFTER:
        best = {name: np.array([max(r[name]["values"][:n]) for r in runs]) for name in STARTS}
        fresh = {name: np.array([r[name]["fresh"][str(n)] for r in runs]) for name in STARTS}
        for kind, values in (("best", best), ("recommended_fresh", fresh)):
            result[f"{kind}_after_{n}"] = {
                **{name: interval(v) for name, v in values.items()},
                "difference": interval(values["warm"] - values["usual"]),
            }
    for unit in ("trials", "seconds"):
        needed = [until_near(r, unit) for r in runs]
        result[f"{unit}_until_near"] = {name: [n[name] for n in needed] for name in STARTS}
    return result


def until_near(run: dict[str, Any], unit: str) -> dict[str, float | None]:
    """How long each search took to come near the best value that either has found."""
    near = NEAR * max(max(run[name]["values"]) for name in STARTS)
    needed: dict[str, float | None] = {}
    for name in STARTS:
        n = next((i + 1 for i, v in enumerate(run[name]["values"]) if v >= near), None)
        is_time = unit == "seconds" and n is not None
        needed[name] = round(sum(run[name]["seconds"][:n]), 1) if is_time else n
    return needed


def interval(values: Any) -> list[float]:
    """Mean and half width."""
    of = Interval.of(np.asarray(values, dtype=float))
    return [round(of.mean, 4), round(of.half_width, 4)]


if __name__ == "__main__":
    main()
