"""The problems of ``benchmarks/search.py`` that need no further package."""

from __future__ import annotations

from collections.abc import Callable
import csv
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import optuna
import pytest


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__


@pytest.fixture
def grid(tmp_path: Path) -> Callable[[Callable[..., float]], Path]:
    """Writes a full grid of scores that depend on positions and seed."""

    def write(score: Callable[..., float]) -> Path:
        path = tmp_path / "grid.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["balance", "temperature", "batch_size", "seed", "map_at_r"])
            for i, j, k, seed in product(range(7), range(5), range(4), range(3)):
                value = score(i / 6, j / 4, k / 3, seed)
                row = [2.0**i, 10.0 ** (j / 4 - 2), 32 * 2**k, seed, value]
                writer.writerow(row)
        return path

    return write


@pytest.mark.parametrize("half", ["development", "reporting"])
def test_no_point_of_a_surface_is_better_than_its_optimum(load: Load, half: str) -> None:
    at_random = load("problem").at_random
    rng = np.random.default_rng(0)
    for problem in load("synthetic").surfaces(half):
        values = [problem.value(at_random(problem.space, rng)) for _ in range(100)]
        assert max(values) <= problem.optimum
        assert min(values) >= 0


def test_halves_have_different_surfaces(load: Load) -> None:
    halves = [load("synthetic").surfaces(half) for half in ("development", "reporting")]
    for development, reporting in zip(*halves):
        assert development.name == reporting.name
        assert development.value(development.start) != reporting.value(reporting.start)


def test_surfaces_are_observed_with_the_noise_in_their_names(load: Load) -> None:
    for problem in load("synthetic").surfaces("development"):
        assert problem.noise_level == pytest.approx(float(problem.name.partition("_noise")[2]))
        noises = problem.noises(seed=1, n_trials=2_000)
        assert noises.std() == pytest.approx(problem.noise, rel=0.1)


def test_a_trial_of_a_conditional_surface_has_what_its_loss_has(load: Load) -> None:
    surfaces = {p.name: p for p in load("synthetic").surfaces("development")}
    problem = surfaces["conditional_4_noise0.005"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10):
        params = problem.suggest(study.ask())
        assert ("temperature" in params) == (params["loss"] == "infonce")
        assert ("margin" in params) == (params["loss"] == "margin")
        assert problem.value(params) <= problem.optimum


def test_a_quadratic_landscape_is_not_changed_at_its_settings(load: Load, grid) -> None:
    def score(x: float, y: float, z: float, seed: int) -> float:
        return 0.5 - (x - 0.5) ** 2 - (y - 0.5) ** 2 + 0.3 * x * y + 0.1 * z + 0.01 * seed

    landscape = load("recorded").Landscape(grid(score), "development")
    for i, j, k in product(range(7), range(5), range(4)):
        params = {
            "balance": 2.0**i,
            "temperature": 10.0 ** (j / 4 - 2),
            "batch_size": 32 * 2**k,
        }
        assert landscape.value(params) == pytest.approx(score(i / 6, j / 4, k / 3, 1), abs=1e-5)


def test_a_landscape_does_not_exceed_its_optimum_between_settings(load: Load, grid) -> None:
    rng = np.random.default_rng(0)
    path = grid(lambda *_: float(rng.random()))
    landscape = load("recorded").Landscape(path, "development")
    values = [landscape.value(load("problem").at_random(landscape.space, rng)) for _ in range(500)]
    assert max(values) <= landscape.optimum


def test_a_difference_between_seeds_is_no_noise(load: Load, grid) -> None:
    path = grid(lambda x, y, z, seed: x + y + z + 0.1 * seed)
    assert load("recorded").Landscape(path, "development").noise == pytest.approx(0, abs=1e-12)


def test_noise_of_a_landscape_is_that_of_its_trainings(load: Load, grid) -> None:
    rng = np.random.default_rng(0)
    path = grid(lambda *_: 0.01 * rng.standard_normal())
    assert load("recorded").Landscape(path, "development").noise == pytest.approx(0.01, rel=0.15)


def test_an_incomplete_grid_is_refused(load: Load, grid) -> None:
    path = grid(lambda *_: 0.0)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match="1 trainings are missing"):
        load("recorded").Landscape(path, "development")


def test_nelder_mead_finds_a_smooth_optimum(load: Load) -> None:
    surfaces = {p.name: p for p in load("synthetic").surfaces("development")}
    problem = surfaces["separable_3_noise0"]
    search = load("searchers").NelderMead(problem, seed=0)
    trials = []
    for _ in range(60):
        trial, params = search.ask()
        trials.append((params, problem.value(params)))
        search.tell(trial, trials[-1][1])
    assert trials[0][0] == problem.start
    assert max(value for _, value in trials) > 0.99 * problem.optimum
