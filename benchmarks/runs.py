"""Runs searches on problems, and keeps what they did: a line of JSON each, in
``DIR/HALF/SAMPLER.jsonl``. What is there is not run again.

``search.py`` does all. Alone, this runs samplers in an environment of their own, which needs
NumPy, SciPy, Optuna and ioh besides them::

    OMP_NUM_THREADS=1 python benchmarks/runs.py --samplers HEBO
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from concurrent.futures import as_completed
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from dataclasses import dataclass
import heapq
import json
from multiprocessing import get_context
from pathlib import Path
import time
from typing import Any
import warnings

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from peers import PEERS
from problem import encode
from problem import Params
from problem import Problem
from problem import stream
from problems import HALVES
from problems import named_problem
from problems import problems
from searchers import SEARCHERS
from tqdm import tqdm


RUNS = Path(__file__).parent / "runs"
ALL_SEARCHERS = {**SEARCHERS, **PEERS}
# The halves share no seed.
FIRST_SEED = {"development": 0, "reporting": 1_000}
QUICK_EVERY = 6


@dataclass(frozen=True)
class Job:
    """One search.

    Args:
        half, problem:
            The half, and the problem's name.
        sampler:
            A key of :data:`ALL_SEARCHERS`.
        seed:
            Of the sampler and of the noise.
        n_trials, n_workers:
            The number of trials, and how many are under way at a time.
    """

    half: str
    problem: str
    sampler: str
    seed: int
    n_trials: int
    n_workers: int = 1

    @property
    def key(self) -> tuple[str, int]:
        return self.problem, self.seed

    @property
    def file(self) -> Path:
        workers = f"-{self.n_workers}workers" if self.n_workers > 1 else ""
        return Path(self.half) / f"{self.sampler.replace(' ', '_')}{workers}.jsonl"


@dataclass(frozen=True)
class Run:
    """What a search did, its trials in the order in which they finished.

    Attributes:
        problem, seed:
            Those of the job.
        positions:
            The parameters of each trial on [0, 1], in the order of the problem's space;
            :obj:`None` for those that a trial did not have.
        values, observed:
            The values without and with noise.
        finished:
            When each trial finished, in mean durations of a trial.
        cpu_ms:
            CPU time of asking for and of telling each trial.
    """

    problem: str
    seed: int
    positions: list[list[float | None]]
    values: list[float]
    observed: list[float]
    finished: list[float]
    cpu_ms: list[float]

    @property
    def key(self) -> tuple[str, int]:
        return self.problem, self.seed


def run(job: Job) -> Run:
    """Search, with trials whose durations are simulated."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    problem = named_problem(job.half, job.problem)
    searcher = ALL_SEARCHERS[job.sampler](problem, job.seed)
    noises = problem.noises(job.seed, job.n_trials)
    durations = _durations(problem, job)
    result = Run(job.problem, job.seed, [], [], [], [], [])
    cpu = np.zeros(job.n_trials)
    under_way: list[tuple[float, int, Any, Params]] = []
    n_asked, now = 0, 0.0
    while n_asked < job.n_trials or under_way:
        while n_asked < job.n_trials and len(under_way) < job.n_workers:
            start = time.process_time()
            trial, params = searcher.ask()
            cpu[n_asked] += time.process_time() - start
            heapq.heappush(under_way, (now + durations[n_asked], n_asked, trial, params))
            n_asked += 1
        now, number, trial, params = heapq.heappop(under_way)
        value = problem.value(params)
        start = time.process_time()
        searcher.tell(trial, value + noises[number])
        cpu[number] += time.process_time() - start
        result.positions.append(_positions(problem, params))
        result.values.append(_rounded(value))
        result.observed.append(_rounded(value + noises[number]))
        result.finished.append(_rounded(now))
        result.cpu_ms.append(round(1e3 * cpu[number], 2))
    return result


def perform(jobs: Collection[Job], folder: Path, n_processes: int) -> None:
    """Run those jobs that have not been run yet.

    Raises:
        RuntimeError: Some have failed; all others have been run.
    """
    done = {file: _finished(folder / file) for file in {job.file for job in jobs}}
    missing = [j for j in dict.fromkeys(jobs) if done[j.file].get(j.key, 0) < j.n_trials]
    failures = []
    with ProcessPoolExecutor(n_processes, get_context("spawn")) as pool:
        running = {pool.submit(run, job): job for job in missing}
        for future in tqdm(as_completed(running), "searches", len(running), smoothing=0):
            job = running[future]
            if error := future.exception():
                failures.append(f"{job}: {error!r}")
                continue
            path = folder / job.file
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(asdict(future.result()), separators=(",", ":")) + "\n")
    if failures:
        raise RuntimeError("\n".join([f"{len(failures)} searches have failed.", *failures[:20]]))


def read(path: Path) -> list[Run]:
    """The runs in a file, which need not exist."""
    if not path.exists():
        return []
    with path.open() as file:
        return [Run(**json.loads(line)) for line in file]


def jobs_of(
    samplers: Collection[str], options: argparse.Namespace, n_workers: int = 1
) -> list[Job]:
    """Cheap samplers and whole problems first, so that tables can be made early."""
    chosen = chosen_problems(options)
    first = FIRST_SEED[options.half]
    return [
        Job(options.half, problem.name, sampler, first + seed, options.trials, n_workers)
        for sampler in samplers
        for problem in chosen
        for seed in range(options.seeds)
    ]


def chosen_problems(options: argparse.Namespace) -> list[Problem]:
    chosen = problems(options.half)[:: QUICK_EVERY if options.quick else 1]
    if options.problems is None:
        return chosen
    return [p for p in chosen if any(part in p.name for part in options.problems)]


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--half", choices=HALVES, default="reporting", help="default: %(default)s")
    add("--seeds", type=int, default=20, metavar="N", help="default: %(default)s")
    add("--trials", type=int, default=60, metavar="N", help="default: %(default)s")
    add("--jobs", type=int, default=1, metavar="N", help="searches at a time")
    add("--samplers", nargs="+", choices=ALL_SEARCHERS, metavar="NAME", help="default: all here")
    add("--problems", nargs="+", metavar="PART", help="those whose names have one of these parts")
    add("--runs", type=Path, default=RUNS, metavar="DIR", help="where runs are kept")
    add("--quick", action="store_true", help="every sixth problem, two seeds")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    options = parser.parse_args()
    if options.quick:
        options.seeds = min(options.seeds, 2)
    return options


def main() -> None:
    options = parsed(argument_parser(__doc__))
    perform(jobs_of(options.samplers or SEARCHERS, options), options.runs, options.jobs)


def _finished(path: Path) -> dict[tuple[str, int], int]:
    """The numbers of trials."""
    return {r.key: len(r.values) for r in read(path)}


def _durations(problem: Problem, job: Job) -> np.ndarray:
    """With mean 1, and by trial number the same for every sampler."""
    rng = stream(problem.half, problem.name, job.seed, 1)
    sigma = 0.5
    return rng.lognormal(-(sigma**2) / 2, sigma, job.n_trials)


def _positions(problem: Problem, params: Params) -> list[float | None]:
    return [
        _rounded(encode(d, params[name])) if name in params else None
        for name, d in problem.space.items()
    ]


def _rounded(x: float) -> float:
    return float(f"{x:.7g}")


if __name__ == "__main__":
    main()
