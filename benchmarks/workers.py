"""How long a study takes with several workers on one machine, into ``results/workers.json``.

::

    python benchmarks/workers.py --root DIR --weights FILE

Trainings of a head on the features of CUB-200, which are in the cache by then. The settings are
drawn at random with one seed, so that the trials are the same ones whoever runs them. ``trials``
are the seconds from the first trial's beginning to the last one's end, ``all`` those of the whole
command: loading, the workers' start and the report are in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import subprocess
import sys
from tempfile import TemporaryDirectory
import time

import optuna
from record import RESULTS
from record import write_record


SCRIPT = Path(__file__).parents[1] / "studies" / "cub200.py"
WORKERS = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of CUB-200")
    parser.add_argument("--weights", required=True, help="of tf_efficientnet_lite0")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--samples", type=int, default=40_000)
    options = parser.parse_args()
    # The first run fills the cache.
    timed(options, 1, n_trials=1)
    results = []
    for n_workers in WORKERS:
        seconds = timed(options, n_workers, n_trials=options.trials)
        results.append({"workers": n_workers, "trials": options.trials, "seconds": seconds})
        print(results[-1])
    write_record(RESULTS / "workers.json", results)


def timed(options: argparse.Namespace, n_workers: int, n_trials: int) -> dict[str, float]:
    arguments = {
        "--root": options.root,
        "--weights": options.weights,
        "--backbone": "tf_efficientnet_lite0",
        "--image-size": 128,
        "--samples": options.samples,
        "--sampler": "random",
        "--study-name": "timed",
        "--storage": "sqlite:///timed.db",
        "--confirm": 0,
        "--n-trials": n_trials,
        "--workers": n_workers,
    }
    listed = [str(word) for pair in arguments.items() for word in pair]
    with TemporaryDirectory() as folder:
        start = time.monotonic()
        subprocess.run(
            [sys.executable, SCRIPT, "--head-only", *listed],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic()
        trials = optuna.load_study(
            study_name="timed", storage=f"sqlite:///{folder}/timed.db"
        ).trials
    begun = [t.datetime_start for t in trials if t.datetime_start is not None]
    ended = [t.datetime_complete for t in trials if t.datetime_complete is not None]
    span = (max(ended) - min(begun)).total_seconds()
    return {"trials": round(span, 2), "all": round(end - start, 2)}


if __name__ == "__main__":
    main()
