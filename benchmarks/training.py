"""How fast a trial trains: ``results/training.json``, on a GPU ``training_cuda.json``.

::

    python benchmarks/training.py --cub DIR

DIR is the folder of CUB-200. Samples per second, random weights, in turns:

* ``trial``: of the steps of a trial, evaluations apart;
* ``bound``: of forward, loss, backward and optimizer step alone, on random data that lies on the
  device. The loss is the trial's, as it is part of what a training computes; ``bound, no loss``
  has the mean of squares in its place, and says what the loss costs;
* ``DataLoader``: of the same training as usually written (``usual_training.py``), in a process of
  its own, with two workers and without: on two cores, torch's threads and the workers are in each
  other's way. What is compared is the faster of the two;
* ``loader``: of that DataLoader with nothing else to do. Where it is below the bound, the usual
  training is bound by data.

On a CPU all have the same two cores: the threads of torch and the workers of the DataLoader. Head
only, torch has one thread, as in a trial. The large JPEGs are CUB's 128 pixels enlarged to 500: as
much work to decode as photographs of that size, though no more detail.

``profile`` is the time of a step of the trial by groups of operations, in milliseconds, under
torch's profiler. ``results/training_before.json`` is what this script, as it then was, wrote of
the package at 7337945, before its training was made faster: with a bound without loss, and without
a limit of cores; its profiles were added later, with two cores.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import statistics
from tempfile import TemporaryDirectory
from typing import Any

from operations import profiled
from record import RESULTS
from record import write_record
from tables import rst_table
import torch
from training_cases import Case
from training_cases import CASES
from training_cases import CORES
from training_cases import enlarged
from training_cases import regime_of
from training_contenders import bound
from training_contenders import mean_square
from training_contenders import trial
from training_contenders import Turn
from training_contenders import turn_of
from training_contenders import UsualTraining
from usual_training import WORKERS

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna.data import CUB200
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import LabelledImages


TRIAL, BOUND, NO_LOSS, LOADER = "trial", "bound", "bound, no loss", "loader"
# The usual training, by the number of workers of its DataLoader.
USUAL = {"DataLoader": WORKERS, "DataLoader, no workers": 0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    results = []
    with TemporaryDirectory() as directory:
        small: LabelledImages = CUB200(options.cub)
        large = enlarged(small, Path(directory) / "large")
        for case in CASES:
            if device.type == "cpu":
                torch.set_num_threads(case.threads)
            dataset, cache = small, default_cache_directory()
            if case.large_files:
                dataset, cache = large, Path(directory)
            results.append(compared(case, dataset, device, cache, options.rounds))
    suffix = "" if options.device == "cpu" else f"_{options.device}"
    write_record(RESULTS / f"training{suffix}.json", results, ["pytorch-metric-learning"])
    print(table(results))


def compared(
    case: Case, dataset: LabelledImages, device: torch.device, cache: Path, rounds: int
) -> dict[str, Any]:
    regime = regime_of(case, dataset, device, cache)
    trial_steps = trial(case, dataset, regime)
    place = (case, dataset, device, cache)
    others = {name: UsualTraining(*place, workers=n) for name, n in USUAL.items()}
    others[LOADER] = UsualTraining(*place, workers=WORKERS, training=False)
    contenders: dict[str, Turn] = {
        TRIAL: turn_of(trial_steps, case, device),
        BOUND: turn_of(bound(case, dataset, regime, SplitInfoNCELoss()), case, device),
        NO_LOSS: turn_of(bound(case, dataset, regime, mean_square), case, device),
        **others,
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + rounds):
        for name, turn in contenders.items():
            rates[name].append(case.samples / turn())
    for other in others.values():
        other.close()
    # The first turns warm caches up.
    rates = {name: own[1:] for name, own in rates.items()}
    medians = {name: statistics.median(own) for name, own in rates.items()}

    def median_ratio(other: str) -> float:
        """Of turns next to each other: the machine may be slower in some."""
        return statistics.median(a / b for a, b in zip(rates[TRIAL], rates[other]))

    return {
        "case": case.name,
        "backbone": case.backbone,
        "image_size": case.image_size,
        "batch_size": case.batch_size,
        "samples_per_second": {name: round(rate, 1) for name, rate in medians.items()},
        "share_of_bound": round(median_ratio(BOUND), 3),
        "share_of_bound_without_loss": round(median_ratio(NO_LOSS), 3),
        "times_the_usual": round(min(map(median_ratio, USUAL)), 2),
        "usual_is_bound_by_data": medians[LOADER] < medians[BOUND],
        "profile": profiled(trial_steps, case.steps),
    }


def table(results: list[dict[str, Any]]) -> str:
    rows = [["Samples per second", "Trial", "Bound", "Of bound", "DataLoader", "Times faster"]]
    for row in results:
        rates = row["samples_per_second"]
        rows.append(
            [
                f"{row['case']}: {row['backbone']}, {row['image_size']} px, "
                f"batch {row['batch_size']}",
                f"{rates[TRIAL]:.0f}",
                f"{rates[BOUND]:.0f}",
                f"{row['share_of_bound']:.2f}",
                f"{max(map(rates.get, USUAL)):.0f}" + " (data)" * row["usual_is_bound_by_data"],
                f"{row['times_the_usual']:.1f}",
            ]
        )
    return rst_table(rows)


if __name__ == "__main__":
    main()
