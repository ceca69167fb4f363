"""What many workers and many trials cost, into ``results/scale.json``.

::

    OMP_NUM_THREADS=1 python benchmarks/scale.py --storage postgresql://USER@HOST/DATABASE

``workers``: trials per hour against the number of workers, on an objective that sleeps, in a study
of the PostgreSQL database. A worker's rate is that between the starts of its first and its last
trial, so that its own start does not count.

``stored``: what a trial costs beside its training when the study has so many trials, in a sqlite
file, in the database and behind its proxy: ``ask`` (the sampler, its claim and the parameters),
``tell``, and 30 ``attributes``, as a training leaves; the trials that were there have none.
``first_ask`` is that of a process that joins, and reads the study for the first time.

``sooner``: on recorded landscapes, whose trials take random times, by how much several workers are
sooner within 1 % of the optimum than one.

The database should be empty, and the machine have nothing else to do; ``load`` is what it had.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import re
import statistics
import subprocess
import sys
from tempfile import TemporaryDirectory
import time
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial
from overhead import study_of
from parallel import time_to
from problems import named_problem
from record import RESULTS
from record import write_record
from runs import FIRST_SEED
from runs import Job
from runs import perform
from runs import read
from runs import RUNS
from sqlalchemy import create_engine
from sqlalchemy import make_url
from stand_in import PROCESS
from stand_in import StandIn
from stand_in import value_of
from stand_in import write_attributes

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.storage import close_storage
from cbal_optuna.storage import open_storage
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers import Workers


WORKERS = (1, 2, 4, 8, 16)
STORED = (100, 1_000, 10_000)
ASKS = 30
HALF, OURS, SHARE = "reporting", "CoordinateDescent", 0.01


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--storage", required=True, metavar="URL", help="of an empty PostgreSQL database")
    add("--seconds", type=float, default=10.0, help="that a trial sleeps (default: %(default)s)")
    add("--trials", type=int, default=5, help="of each worker (default: %(default)s)")
    add("--landscapes", nargs="+", default=["cub_negatives", "flowers_all"], metavar="NAME")
    add("--seeds", type=int, default=4, metavar="N", help="of each landscape")
    add("--searched", type=int, default=80, metavar="N", help="trials of a search")
    add("--jobs", type=int, default=1, metavar="N", help="searches at a time")
    add("--runs", type=Path, default=RUNS, metavar="DIR", help="where searches are kept")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results = {
        "sooner": sooner(options),
        "synchronous_commit": _setting(options.storage, "synchronous_commit"),
        "fsync": _setting(options.storage, "fsync"),
        "stored": stored(options.storage),
        "workers": rates(options),
    }
    write_record(RESULTS / "scale.json", results)


def _setting(url: str, name: str) -> str:
    """Of the server: whether it waits for the disk is most of what a writing costs."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


# Trials per hour


def rates(options: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    alone = 0.0
    for n_workers in WORKERS:
        rate = _rate(options, n_workers)
        alone = alone or rate
        row: dict[str, Any] = {"workers": n_workers, "trials_per_hour": round(rate)}
        row["load"] = round(os.getloadavg()[0], 1)
        row["share_of_linear"] = round(rate / n_workers / alone, 3)
        found.append(row)
        print(row, flush=True)
    return found


def _rate(options: argparse.Namespace, n_workers: int) -> float:
    storage = open_storage(options.storage)
    sampler = CoordinateDescentSampler(seed=0)
    study = optuna.create_study(
        study_name=f"{n_workers} workers", storage=storage, direction="maximize", sampler=sampler
    )
    objective: Any = StandIn(options.seconds)
    with Workers(objective, storage, n_workers) as workers:
        run_trials_with(workers, study, objective, n_workers * options.trials)
    starts: dict[int, list[float]] = defaultdict(list)
    for trial in study.trials:
        assert trial.datetime_start is not None
        starts[trial.user_attrs[PROCESS]].append(trial.datetime_start.timestamp())
    close_storage(storage)
    return 3600 * sum((len(s) - 1) / (max(s) - min(s)) for s in starts.values() if len(s) > 1)


# Many stored trials


def stored(url: str) -> list[dict[str, Any]]:
    kept = study_of(RandomSampler(seed=0), STORED[-1]).trials
    found = []
    with TemporaryDirectory() as folder, proxy_of(url) as proxy:
        file = f"sqlite:///{folder}/study.db"
        for n_trials, n_before in zip(STORED, (0, *STORED)):
            for kind, place in (("sqlite", file), ("PostgreSQL", url), ("proxy", proxy)):
                if kind != "proxy":
                    _fill(place, kept[n_before:n_trials])
                found.append({"storage": kind, "trials": n_trials, **_overhead(place)})
                print(found[-1], flush=True)
    return found


def _fill(url: str, trials: Sequence[FrozenTrial]) -> None:
    _study(url).add_trials(trials)


def _study(url: str) -> optuna.Study:
    return optuna.create_study(
        study_name="stored",
        storage=open_storage(url),
        direction="maximize",
        sampler=CoordinateDescentSampler(seed=0),
        load_if_exists=True,
    )


def _overhead(url: str) -> dict[str, float]:
    """Median milliseconds."""
    study, space = _study(url), SearchSpace()
    times: dict[str, list[float]] = defaultdict(list)
    cpu = []
    for _ in range(ASKS):
        begun = time.process_time()
        moments = [time.perf_counter()]
        trial = study.ask()
        setting = space.suggest(trial)
        moments.append(time.perf_counter())
        write_attributes(trial)
        moments.append(time.perf_counter())
        study.tell(trial, value_of(setting))
        moments.append(time.perf_counter())
        for name, begin, end in zip(("ask", "attributes", "tell"), moments, moments[1:]):
            times[name].append(1e3 * (end - begin))
        cpu.append(1e3 * (time.process_time() - begun))
    both = [ask + tell for ask, tell in zip(times["ask"], times["tell"])]
    return {
        "first_ask_ms": round(times["ask"][0], 1),
        **{f"{name}_ms": round(statistics.median(t[1:]), 1) for name, t in times.items()},
        "ask_and_tell_ms": round(statistics.median(both[1:]), 1),
        "own_cpu_ms": round(statistics.median(cpu[1:]), 1),
        "load": round(os.getloadavg()[0], 1),
    }


@contextmanager
def proxy_of(url: str) -> Iterator[str]:
    command = [sys.executable, "-m", "cbal_optuna", "serve-storage", url, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"grpc://\S+", server.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            server.terminate()


# Sooner near the optimum


def sooner(options: argparse.Namespace) -> list[dict[str, Any]]:
    seeds = [FIRST_SEED[HALF] + seed for seed in range(options.seeds)]
    jobs = [
        Job(HALF, name, OURS, seed, options.searched, n_workers)
        for n_workers in WORKERS
        for name in options.landscapes
        for seed in seeds
    ]
    perform(jobs, options.runs, options.jobs)
    runs = {
        (file, run.key): run
        for file in {j.file for j in jobs}
        for run in read(options.runs / file)
    }
    times: dict[int, list[float]] = defaultdict(list)
    for job in jobs:
        problem = named_problem(HALF, job.problem)
        times[job.n_workers].append(time_to(problem, runs[job.file, job.key], SHARE))
    middles = {n: sorted(t)[(len(t) - 1) // 2] for n, t in times.items()}
    return [
        {
            "workers": n,
            "searches": len(times[n]),
            "arrived": sum(t < float("inf") for t in times[n]),
            "median_time": round(middle, 2),
            "speed_up": round(middles[1] / middle, 2),
        }
        for n, middle in middles.items()
    ]


if __name__ == "__main__":
    main()
