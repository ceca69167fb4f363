"""What it gains that the sampler is told the values of a trial's trainings, and not their mean
alone: simulated searches on noisy problems; writes ``results/replicates.json``.

::

    OMP_NUM_THREADS=1 python benchmarks/replicates.py

The landscapes and noisy surfaces are those of the reporting half of ``search.py``, with seeds of
their own. A trial has three trainings; one is easier than another, for every setting. Regrets are
those of the recommended trial, 0 at the optimum and 1 at the median of the space.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any
import warnings

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from problem import Problem
from problem import stream
from problems import named_problem
from problems import problems
from record import RESULTS
from record import write_record
from recorded import Landscape
from tqdm import tqdm

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.summary import recommended_trial


TRAININGS = 3
COUNTS = (10, 20, 30, 40)
LEAST_NOISE = 0.1
# Trainings differ from one another by this many times what noise does.
EASIER = 3.0
# Bootstrap samples.
N_DRAWS = 5_000


@dataclass(frozen=True)
class Job:
    """A search, told what the trainings came to or not."""

    problem: str
    seed: int
    is_told: bool


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    families = dict(_families())
    names = [name for family in families.values() for name in family]
    jobs = [Job(*each) for each in product(names, range(options.seeds), (False, True))]
    with ProcessPoolExecutor(options.jobs) as pool:
        regrets = dict(zip(jobs, tqdm(pool.map(regrets_of, jobs), total=len(jobs), unit="search")))
    results = [
        compared(family, own, [job for job in jobs if job.problem in own], regrets)
        for family, own in families.items()
    ]
    for result in results:
        print(result)
    write_record(RESULTS / "replicates.json", results)


def _families() -> Iterator[tuple[str, list[str]]]:
    own = problems("reporting")
    yield "recorded landscapes", [p.name for p in own if isinstance(p, Landscape)]
    noisy = [p for p in own if not isinstance(p, Landscape) and p.noise_level >= LEAST_NOISE]
    yield f"surfaces with a noise of {LEAST_NOISE:g} or more", [p.name for p in noisy]


def regrets_of(job: Job) -> list[float]:
    """After each of the counts."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    problem = named_problem("reporting", job.problem)
    sampler = CoordinateDescentSampler(x0=problem.start, seed=job.seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    regrets = []
    for number, noises in enumerate(_noises(problem, job.seed), 1):
        trial = study.ask()
        value = problem.value(problem.suggest(trial))
        values = (value + noises).tolist()
        trial.set_user_attr("without noise", value)
        if job.is_told:
            trial.set_user_attr("values", values)
        study.tell(trial, float(np.mean(values)))
        if number in COUNTS:
            best = recommended_trial(study).user_attrs["without noise"]
            regrets.append(problem.regret(best))
    return regrets


def _noises(problem: Problem, seed: int) -> np.ndarray:
    """By trial and training."""
    rng = stream(problem.half, problem.name, seed, TRAININGS)
    easier = EASIER * rng.standard_normal(TRAININGS)
    return problem.noise * (easier + rng.standard_normal((max(COUNTS), TRAININGS)))


def compared(
    family: str, names: list[str], jobs: list[Job], regrets: dict[Job, list[float]]
) -> dict[str, Any]:
    """Mean regrets without and with the values, and 95 % intervals of their differences."""
    told = np.array([regrets[job] for job in jobs if job.is_told])
    alone = np.array([regrets[job] for job in jobs if not job.is_told])
    rng = np.random.default_rng(0)
    draws = rng.integers(len(told), size=(N_DRAWS, len(told)))
    low, high = np.quantile((told - alone)[draws].mean(axis=1), [0.025, 0.975], axis=0)
    return {
        "family": family,
        "problems": names,
        "searches": len(told),
        "trials": list(COUNTS),
        "mean alone": alone.mean(axis=0).round(4).tolist(),
        "told the values": told.mean(axis=0).round(4).tolist(),
        "difference_low": low.round(4).tolist(),
        "difference_high": high.round(4).tolist(),
    }


if __name__ == "__main__":
    main()
