"""The searches that are compared, each behind ``ask`` and ``tell``: ours, Optuna's samplers and
Nelder-Mead, all at their defaults. Those of other packages are in ``peers.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.samplers import CmaEsSampler
from optuna.samplers import GPSampler
from optuna.samplers import QMCSampler
from optuna.samplers import RandomSampler
from optuna.samplers import TPESampler
from problem import decode
from problem import encode
from problem import Params
from problem import Problem
from scipy.optimize import minimize


class Searcher(Protocol):
    """One search of one problem, whose first trial is the problem's start."""

    def ask(self) -> tuple[Any, Params]:
        """A trial, and its parameters."""

    def tell(self, trial: Any, value: float) -> None:
        """Give the value, to be maximised, of a trial."""


class StudySearcher:
    """An Optuna sampler on a study in memory. Any number of trials may be under way."""

    def __init__(self, problem: Problem, sampler: BaseSampler) -> None:
        self._problem = problem
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._study.enqueue_trial(problem.start)

    def ask(self) -> tuple[optuna.Trial, Params]:
        trial = self._study.ask()
        return trial, self._problem.suggest(trial)

    def tell(self, trial: optuna.Trial, value: float) -> None:
        self._study.tell(trial, value)


class NelderMead:
    """SciPy's Nelder-Mead on the unit cube, restarted from a random point when it has converged.

    The first simplex has edges of a quarter of each axis, as long as our first steps; SciPy's own
    of 5 % are shorter than the distance between two batch sizes. Each call replays the search
    over the values told so far. Trials one at a time.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self._space = problem.space
        self._start = problem.start
        self._seed = seed
        self._values: list[float] = []

    def ask(self) -> tuple[None, Params]:
        rng = np.random.default_rng(self._seed)
        told = iter(self._values)
        asked: list[np.ndarray] = []

        def cost(u: np.ndarray) -> float:
            value = next(told, None)
            if value is None:
                asked.append(u.copy())
                raise StopIteration
            return -value

        u = np.array(
            [
                encode(d, self._start[n]) if n in self._start else 0.5
                for n, d in self._space.items()
            ]
        )
        bounds = [(0.0, 1.0)] * len(u)
        while not asked:
            steps = np.where(u > 0.5, -0.25, 0.25)
            simplex = np.vstack([u, u + np.diag(steps)])
            options = {"initial_simplex": simplex, "maxfev": 10_000}
            try:
                minimize(cost, u, method="Nelder-Mead", bounds=bounds, options=options)
            except StopIteration:
                break
            u = rng.random(len(u))
        return None, {n: decode(d, p) for (n, d), p in zip(self._space.items(), asked[0])}

    def tell(self, trial: None, value: float) -> None:
        self._values.append(value)


def _coordinate_descent(line_search: str) -> Callable[[Problem, int], Searcher]:
    def make(problem: Problem, seed: int) -> Searcher:
        # Environments of other packages have no need of ours.
        from cbal_optuna import CoordinateDescentSampler

        sampler = CoordinateDescentSampler(
            x0=problem.start,
            line_search=line_search,
            seed=seed,
            warn_independent_sampling=False,
        )
        return StudySearcher(problem, sampler)

    return make


def _optuna(make: Callable[[int], BaseSampler]) -> Callable[[Problem, int], Searcher]:
    return lambda problem, seed: StudySearcher(problem, make(seed))


# The first is the one to which the others are compared.
OURS: dict[str, Callable[[Problem, int], Searcher]] = {
    "CoordinateDescent": _coordinate_descent("surrogate"),
    "CoordinateDescent parabolic": _coordinate_descent("parabolic"),
}
SEARCHERS: dict[str, Callable[[Problem, int], Searcher]] = {
    **OURS,
    "Random": _optuna(lambda seed: RandomSampler(seed=seed)),
    "TPE": _optuna(lambda seed: TPESampler(seed=seed)),
    "TPE univariate": _optuna(lambda seed: TPESampler(seed=seed, multivariate=False)),
    "GPSampler": _optuna(lambda seed: GPSampler(seed=seed)),
    "CmaEs": _optuna(lambda seed: CmaEsSampler(seed=seed)),
    "QMC": _optuna(lambda seed: QMCSampler(seed=seed)),
    "Nelder-Mead": NelderMead,
}
