"""Functions of the BBOB suite (Hansen et al., 2009) through the package ioh."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import math
from typing import Any

import ioh
import numpy as np
from optuna.distributions import FloatDistribution
from problem import at_random
from problem import Problem
from problem import Space
from problem import stream


FUNCTIONS = {
    # Sphere, linear slope, rotated Rosenbrock, bent cigar, rotated Rastrigin, Gallagher's 21
    # peaks.
    "development": (1, 5, 9, 12, 15, 22),
    # Ellipsoid, Rastrigin, attractive sector, step ellipsoid, Rosenbrock, rotated ellipsoid,
    # Schaffer's F7, Gallagher's 101 peaks.
    "reporting": (2, 3, 6, 7, 8, 10, 17, 21),
}
INSTANCES = {"development": (1, 2, 1), "reporting": (3, 4, 5)}
N_AXES = (2, 3, 5)


class BBOBProblem(Problem):
    """``-log(1 + f - min f)`` of a function f over [-5, 5]^n, without noise, from a random start.

    Without the logarithm, f spans so many orders of magnitude that a regret would tell the first
    few only. Shares of the optimum are counted from the 5th percentile of random points.
    """

    family = "bbob"

    def __init__(self, half: str, function: int, instance: int, n_axes: int) -> None:
        self._function = ioh.get_problem(function, instance, n_axes, ioh.ProblemClass.BBOB)
        self._minimum = self._function.optimum.y
        space: Space = {f"x{i}": FloatDistribution(-5.0, 5.0) for i in range(n_axes)}
        name = f"f{function}_{self._function.meta_data.name}_{n_axes}".lower()
        rng = stream(half, name, instance)
        super().__init__(name, half, space, at_random(space, rng), 0.0)
        values = [self.value(at_random(space, rng)) for _ in range(1_000)]
        self.zero = float(np.percentile(values, 5))

    def value(self, params: Mapping[str, Any]) -> float:
        f = self._function([params[name] for name in self.space])
        return -math.log1p(max(0.0, f - self._minimum))


def functions(half: str) -> Iterator[Problem]:
    for function in FUNCTIONS[half]:
        for n_axes, instance in zip(N_AXES, INSTANCES[half]):
            yield BBOBProblem(half, function, instance, n_axes)
