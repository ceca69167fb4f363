"""How well searches did: regrets, shares near the optimum, and ranks with intervals."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

import numpy as np
from problem import Problem
from runs import Job
from runs import read
from runs import Run
from scipy.stats import rankdata
from synthetic import NOISE_LEVELS
from synthetic import STRONG_RIDGES


COUNTS = (10, 20, 30, 40, 60)
_N_RESAMPLES = 1_000


@dataclass(frozen=True)
class Outcomes:
    """What searches had reached, by problem, seed, sampler and number of trials.

    Attributes:
        problems, seeds, samplers, counts:
            The axes of the arrays. The first sampler is the one that the others are compared to.
        regret:
            Normalised: 0 at the optimum, 1 at the median of random points.
        within_1, within_5:
            Whether within 1 % and 5 % of the optimum.
    """

    problems: list[Problem]
    seeds: list[int]
    samplers: list[str]
    counts: list[int]
    regret: np.ndarray
    within_1: np.ndarray
    within_5: np.ndarray

    @classmethod
    def of(
        cls,
        problems: Sequence[Problem],
        samplers: Sequence[str],
        counts: Sequence[int],
        values: Mapping[Job, Sequence[float]],
    ) -> Outcomes:
        """From the values of all jobs at all counts."""
        seeds = sorted({job.seed for job in values})
        by_name = {(job.problem, job.seed, job.sampler): v for job, v in values.items()}

        def table(measure: str, *arguments: float) -> np.ndarray:
            return np.array(
                [
                    [
                        [
                            [getattr(p, measure)(v, *arguments) for v in by_name[p.name, seed, s]]
                            for s in samplers
                        ]
                        for seed in seeds
                    ]
                    for p in problems
                ]
            )

        return cls(
            list(problems),
            seeds,
            list(samplers),
            list(counts),
            table("regret"),
            table("is_within", 0.01),
            table("is_within", 0.05),
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """The means over each group of problems, by number of trials and sampler.

        ``behind`` is by how much a sampler's mean rank is larger than the first sampler's, ``low``
        and ``high`` its 95 % interval.
        """
        ranks = rankdata(self.regret, axis=2)
        behind = ranks - ranks[:, :, :1]
        for kind, group, chosen in groups(self.problems):
            low, high = bootstrap(behind[chosen]) if kind != "problem" else (None, None)
            for c, count in enumerate(self.counts):
                for s, sampler in enumerate(self.samplers):
                    at = np.ix_(chosen, range(len(self.seeds)), [s], [c])
                    yield {
                        "kind": kind,
                        "group": group,
                        "trials": count,
                        "sampler": sampler,
                        "mean_rank": ranks[at].mean(),
                        "behind": behind[at].mean(),
                        "low": None if low is None else low[s, c],
                        "high": None if high is None else high[s, c],
                        "regret_mean": self.regret[at].mean(),
                        "regret_median": np.median(self.regret[at]),
                        "within_1": self.within_1[at].mean(),
                        "within_5": self.within_5[at].mean(),
                    }


def groups(problems: Sequence[Problem]) -> Iterator[tuple[str, str, list[int]]]:
    """Kind, name and members of each group."""
    members: dict[tuple[str, str], list[int]] = {}
    for i, problem in enumerate(problems):
        own = [("all", "all"), ("family", problem.family)]
        if problem.family == "synthetic":
            level = min(NOISE_LEVELS, key=lambda x: abs(x - problem.noise_level))
            own.append(("synthetic, noise", f"{level:g}"))
            if level <= 0.005 and not problem.name.startswith(STRONG_RIDGES):
                own.append(("synthetic, noise up to 0.005", "no strong ridge"))
        for key in [*own, ("problem", problem.name)]:
            members.setdefault(key, []).append(i)
    for (kind, group), chosen in members.items():
        yield kind, group, chosen


def bootstrap(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a mean over problems and seeds, the first two axes: problems are drawn,
    and for each of them seeds, all samplers together."""
    rng = np.random.default_rng(0)
    n_problems, n_seeds = differences.shape[:2]
    means = []
    for _ in range(_N_RESAMPLES):
        drawn = rng.integers(n_problems, size=(n_problems, 1))
        seeds = rng.integers(n_seeds, size=(n_problems, n_seeds))
        means.append(differences[drawn, seeds].mean(axis=(0, 1)))
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high


def runs_of(jobs: Collection[Job], folder: Path) -> dict[Job, Run]:
    """The runs of those jobs that have one, in the order of the jobs."""
    runs = {f: {r.key: r for r in read(folder / f)} for f in {job.file for job in jobs}}
    found = {job: runs[job.file].get(job.key) for job in jobs}
    return {j: r for j, r in found.items() if r is not None and len(r.values) >= j.n_trials}


def best_observed(run: Run) -> np.ndarray:
    """After each trial, the value without noise of the point with the best observation."""
    best = [0]
    for i, value in enumerate(run.observed[1:], 1):
        best.append(i if value > run.observed[best[-1]] else best[-1])
    return np.array(run.values)[best]


def trials_to(problem: Problem, run: Run, share: float, n_trials: int) -> float:
    """The first number of trials after which the best observed point is within a share of the
    optimum; infinity if that takes more than ``n_trials``."""
    values = best_observed(run)[:n_trials]
    reached = (n for n, value in enumerate(values, 1) if problem.is_within(value, share))
    return next(reached, math.inf)


def median(numbers: Sequence[float]) -> float:
    """The lower one of two, so that infinity is the median of more than half only."""
    return sorted(numbers)[(len(numbers) - 1) // 2]


def shown(trials: float, n_trials: int) -> str:
    return f"> {n_trials}" if math.isinf(trials) else f"{trials:g}"
