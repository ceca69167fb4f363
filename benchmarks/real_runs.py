"""What tuning gains on real images, on a CPU: end to end, from scratch, without labels, and, where
frozen features are enough, head-only; writes ``results/real_runs.json``.

::

    OMP_NUM_THREADS=1 python benchmarks/real_runs.py --work-dir DIR --weights DIR --jobs 2 \\
        --cub DIR --omniglot DIR --cifar10 DIR

Each run first chooses the learning rate that suits the usual setting best, then searches at that
rate, and then trains the usual and the recommended setting again with fresh seeds. All trainings
are kept in the work folder as soon as they are done: killed at any time, the same command goes on
from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
import json
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
import sys
from typing import Any

from gains import gain_cells
from gains import intervals_of
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage
from real_objectives import objective_of
from real_objectives import Run
from real_objectives import RUNS
from real_objectives import weights_of
from record import RESULTS
from record import write_record
from tables import rst_table
import torch

from cbal_optuna import summarize
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.study import load_or_create
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study import run_usual
from cbal_optuna.study import USABLE


METRICS = {"map_at_r": "MAP@R", "knn_accuracy": "kNN accuracy"}


def main() -> None:
    options = parsed()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options.work_dir.mkdir(parents=True, exist_ok=True)
    failed = perform(options.only, options)
    if failed:
        sys.exit(f"failed, to be gone on with by the same command: {', '.join(failed)}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--work-dir", type=Path, required=True, metavar="DIR", help="where trainings are kept")
    add("--weights", type=Path, metavar="DIR", help="files BACKBONE.*.safetensors of ImageNet")
    add("--cub", type=Path, metavar="DIR", help="CUB-200; runs without a folder are left out")
    add("--omniglot", type=Path, metavar="DIR", help="Omniglot")
    add("--cifar10", type=Path, metavar="DIR", help="CIFAR-10, the binary version")
    add("--only", nargs="+", choices=RUNS, metavar="NAME", help=f"of {', '.join(RUNS)}")
    add("--seeds", type=int, default=3, metavar="N", help="fresh ones (default: %(default)s)")
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time")
    options = parser.parse_args()
    options.only = [n for n in options.only or RUNS if getattr(options, RUNS[n].dataset)]
    try:
        for name in options.only:
            weights_of(RUNS[name], options)
    except ValueError as error:
        parser.error(str(error))
    return options


def perform(names: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Perform runs, each in a process; gives the names of those that failed.

    The results so far are written whenever a run is done.
    """
    waiting, failed = list(names), []
    running: dict[int, tuple[str, BaseProcess]] = {}
    while waiting or running:
        while waiting and len(running) < options.jobs:
            name = waiting.pop(0)
            process: BaseProcess = get_context("spawn").Process(
                target=perform_one, args=(name, options), daemon=True
            )
            process.start()
            running[process.sentinel] = name, process
        for sentinel in wait(list(running)):
            assert isinstance(sentinel, int)
            name, process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                failed.append(name)
        write_results(options.work_dir)
    return failed


def perform_one(name: str, options: argparse.Namespace) -> None:
    """Perform a run, or what is left of it, and write its result into the work folder: first that
    on the test part, then with that on the validation part."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(f"sqlite:///{options.work_dir / name}.db")
    for result in results_of(name, RUNS[name], storage, options):
        (options.work_dir / f"{name}.json").write_text(json.dumps(result))


def results_of(
    name: str, run: Run, storage: BaseStorage, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    rates = values_of_rates(name, run, storage, options)
    rate = max(rates, key=lambda r: rates[r])
    objective = objective_of(
        run,
        options,
        batch_size=CategoricalDistribution(run.batch_sizes),
        learning_rate=rate,
    )
    study = open_study(name, storage, objective, "cd", seed=0)
    up_to = partial(run_trials, study, objective)
    up_to(run.n_trials)
    run_usual(study, objective, up_to)
    summary = summarize(study)
    assert summary.usual is not None
    usual, best = summary.usual.params, summary.recommended.params
    result: dict[str, Any] = {
        "run": name,
        **asdict(run),
        "device": "cpu",
        "objective": study.user_attrs["objective"],
        "usual_by_learning_rate": rates,
        "learning_rate": rate,
        "trials": [
            {"params": t.params, "value": t.value} for t in study.get_trials(states=USABLE)
        ],
        "usual": {"params": usual, "value": summary.usual.value},
        "best": {"params": best, "value": summary.recommended.value},
        "fresh_seeds": [],
    }
    for part in (TEST, VALIDATION):
        compared = compare_settings(
            objective, storage, name, usual, best, part=part, n_seeds=options.seeds
        )
        own = {"evaluated_on": compared.evaluated_on, **intervals_of(compared)}
        result["fresh_seeds"].insert(0, own)
        yield result


def values_of_rates(
    name: str, run: Run, storage: BaseStorage, options: argparse.Namespace
) -> dict[float, float]:
    """The usual setting at each learning rate, on the validation part, with the search's seed."""
    searched = objective_of(run, options, batch_size=CategoricalDistribution(run.batch_sizes))
    usual = searched.space.searched(searched.space.usual)
    rates = list(run.learning_rates)
    objective = objective_of(
        run, options, **{**usual, "learning_rate": CategoricalDistribution(rates)}
    )
    study = load_or_create(f"{name}.learning_rate", storage, objective)

    def values() -> dict[float, float]:
        trials = study.get_trials(states=USABLE)
        return {t.params["learning_rate"]: t.value for t in trials if t.value is not None}

    while missing := [rate for rate in rates if rate not in values()]:
        study.enqueue_trial({"learning_rate": missing[0]})
        run_trials(study, objective, len(study.get_trials(states=USABLE)) + 1)
    return values()


def write_results(work_dir: Path) -> None:
    """Of all runs that are done, whichever call performed them."""
    files = [work_dir / f"{name}.json" for name in RUNS]
    results = [json.loads(file.read_text()) for file in files if file.exists()]
    write_record(RESULTS / "real_runs.json", results)
    print(readme_table(results))


def readme_table(results: list[dict[str, Any]]) -> str:
    """What was searched for, on fresh seeds, as a table in reStructuredText."""
    head = ["Data, backbone", "Trained", "Samples", "Trials", "Evaluated on"]
    rows = [[*head, "Usual", "Tuned", "Difference", "Gain"]]
    for result in results:
        name = result["objective"]["dataset"]
        what = [
            f"{name} {result['image_size']} px, {result['backbone']}",
            result["trained"],
            f"{result['samples']:,}",
            str(result["n_trials"]),
        ]
        for compared in result["fresh_seeds"]:
            metric, intervals = next(iter(compared["metrics"].items()))
            evaluated = f"{compared['evaluated_on']}, {METRICS[metric]}"
            rows.append([*what, evaluated, *gain_cells(intervals)])
    return rst_table(rows)


if __name__ == "__main__":
    main()
