"""How much sooner several workers finish a search, whose trials take random times."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from problem import Problem
from problems import named_problem
from runs import Job
from runs import Run
from scores import best_observed
from searchers import OURS


WORKERS = (1, 2, 4, 8)
SAMPLERS = (*OURS, "TPE", "Random")
# Besides the landscapes.
SURFACES = ("separable_3_noise0.005", "strong_ridge_3_noise0.005", "cliff_3_noise0.1")
_TARGET = 0.05


def parallel_jobs(jobs: Collection[Job], problems: Collection[Problem]) -> list[Job]:
    """Those of the sequential jobs that are compared, with each number of workers."""
    names = {p.name for p in problems if p.family == "landscape"} | set(SURFACES)
    chosen = [job for job in jobs if job.sampler in SAMPLERS and job.problem in names]
    return [replace(job, n_workers=n) for n in WORKERS for job in chosen]


def times_table(runs: Mapping[Job, Run]) -> list[dict[str, Any]]:
    """By sampler and number of workers, the mean normalised regret of the best observed point as
    time goes by, in mean durations of a trial, and the median time to within 5 % of the optimum.
    """
    rows = []
    for sampler, n_workers in sorted({(j.sampler, j.n_workers) for j in runs}):
        own = {
            j: (named_problem(j.half, j.problem), run)
            for j, run in runs.items()
            if (j.sampler, j.n_workers) == (sampler, n_workers)
        }
        # Until the first run is over.
        end = min(run.finished[-1] for _, run in own.values())
        times = np.geomspace(0.5, end, 80)
        regrets = [_regrets(problem, run, times) for problem, run in own.values()]
        reached = sorted(time_to(problem, run, _TARGET) for problem, run in own.values())
        middle = reached[(len(reached) - 1) // 2]
        rows.append(
            {
                "sampler": sampler,
                "workers": n_workers,
                "runs": len(own),
                "time": times.round(3).tolist(),
                "regret": np.mean(regrets, axis=0).round(5).tolist(),
                "time_to_5_percent": round(middle, 2) if np.isfinite(middle) else None,
            }
        )
    return rows


def _regrets(problem: Problem, run: Run, times: np.ndarray) -> np.ndarray:
    """Before the first trial has finished, that of the start."""
    regrets = [problem.regret(value) for value in best_observed(run)]
    at_start = problem.regret(problem.value(problem.start))
    return np.array([at_start, *regrets])[np.searchsorted(run.finished, times, side="right")]


def time_to(problem: Problem, run: Run, share: float) -> float:
    """When the best observed point was first within a share of the optimum, in mean durations of
    a trial."""
    for value, time in zip(best_observed(run), run.finished):
        if problem.is_within(value, share):
            return time
    return np.inf
