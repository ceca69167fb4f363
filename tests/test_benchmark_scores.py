"""How ``benchmarks/search.py`` runs and scores searches."""

from __future__ import annotations

from collections.abc import Callable
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


pytest.importorskip("ioh")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROBLEM = "separable_3_noise0.1"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__


@pytest.fixture
def job(load: Load) -> Callable[..., Any]:
    def make(**changes: Any) -> Any:
        job = {"half": "development", "problem": PROBLEM, "sampler": "Random", "seed": 0}
        return load("runs").Job(**{**job, "n_trials": 12, **changes})

    return make


def _run(load: Load, values: list[float], observed: list[float]) -> Any:
    return load("runs").Run(PROBLEM, 0, [], values, observed, [], [])


def test_the_best_observed_point_may_not_be_the_best(load: Load) -> None:
    run = _run(load, values=[1.0, 3.0, 2.0, 0.0], observed=[1.0, 2.0, 4.0, 4.0])
    assert load("scores").best_observed(run).tolist() == [1.0, 3.0, 2.0, 2.0]


def test_trials_to_a_share_are_censored(load: Load) -> None:
    problem = load("problems").named_problem("development", PROBLEM)
    values = [0.5 * problem.optimum, 0.98 * problem.optimum, 0.995 * problem.optimum]
    run = _run(load, values, observed=values)
    trials_to = load("scores").trials_to
    assert trials_to(problem, run, 0.05, 3) == 2
    assert trials_to(problem, run, 0.01, 3) == 3
    assert trials_to(problem, run, 0.01, 2) == math.inf


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([3, 1, 2], 2), ([1, math.inf], 1), ([1, math.inf, math.inf], math.inf)],
)
def test_a_median_is_censored_when_more_than_half_are(
    load: Load, numbers: list[float], expected: float
) -> None:
    assert load("scores").median(numbers) == expected


def test_all_samplers_start_at_the_start_and_see_the_same_noise(load: Load, job: Any) -> None:
    samplers = ("CoordinateDescent parabolic", "Random", "TPE", "Nelder-Mead")
    runs = [load("runs").run(job(sampler=sampler)) for sampler in samplers]
    noises = [np.subtract(run.observed, run.values) for run in runs]
    assert len({tuple(run.positions[0]) for run in runs}) == 1
    for noise in noises[1:]:
        np.testing.assert_allclose(noise, noises[0], atol=1e-6)


def test_workers_finish_the_same_trials_sooner(load: Load, job: Any) -> None:
    alone, together = (load("runs").run(job(n_workers=n)) for n in (1, 4))
    assert sorted(alone.values) == sorted(together.values)
    assert together.finished == sorted(together.finished)
    assert together.finished[-1] < 0.5 * alone.finished[-1]


def test_runs_are_not_repeated(load: Load, job: Any, tmp_path: Path) -> None:
    runs = load("runs")
    for _ in range(2):
        runs.perform([job()], tmp_path, 1)
    assert len(runs.read(tmp_path / job().file)) == 1
    runs.perform([job(n_trials=20)], tmp_path, 1)
    (found,) = load("scores").runs_of([job(n_trials=20)], tmp_path).values()
    assert len(found.values) == 20


def test_the_recommended_point_is_of_the_trials_so_far(
    load: Load, job: Any, tmp_path: Path
) -> None:
    load("runs").perform([job()], tmp_path, 1)
    values_of = load("recommendations").values_of_recommended
    (values,) = values_of([job()], tmp_path, [1, 12], 1).values()
    (run,) = load("scores").runs_of([job()], tmp_path).values()
    assert values[0] == pytest.approx(run.values[0], abs=1e-5)
    assert values_of([job()], tmp_path, [1, 12], 1) == {job(): values}


def test_ranks_share_ties_and_are_compared_with_the_first(load: Load, job: Any) -> None:
    problem = load("problems").named_problem("development", PROBLEM)
    best, half = problem.optimum, 0.5 * problem.optimum
    values = {"A": [half, best], "B": [half, half], "C": [half, 0.0]}
    jobs = {job(sampler=s, seed=seed): v for s, v in values.items() for seed in (0, 1)}
    outcomes = load("scores").Outcomes.of([problem], list(values), [10, 20], jobs)
    rows = {(r["trials"], r["sampler"]): r for r in outcomes.rows() if r["kind"] == "all"}
    assert [rows[10, s]["mean_rank"] for s in values] == [2, 2, 2]
    assert [rows[20, s]["mean_rank"] for s in values] == [1, 2, 3]
    assert [rows[20, s]["low"] for s in values] == [0, 1, 2]
    assert [rows[20, s]["within_1"] for s in values] == [1, 0, 0]


def test_an_interval_holds_the_mean_and_shrinks_with_seeds(load: Load) -> None:
    rng = np.random.default_rng(0)
    differences = 1 + rng.standard_normal((5, 100, 1))
    widths = []
    for n_seeds in (10, 100):
        low, high = load("scores").bootstrap(differences[:, :n_seeds])
        assert low < differences[:, :n_seeds].mean() < high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]
