from __future__ import annotations

from collections.abc import Callable
import math

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
import pytest

from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.retraining import compare_settings
from cbal_optuna.retraining import Interval
from cbal_optuna.retraining import SettingComparison


USUAL = {"balance": 1.0, "temperature": 0.1, "batch_size": 16}
BEST = {"balance": 4.0, "temperature": 0.2, "batch_size": 32}


def compared(
    objective: RetrievalObjective,
    storage: optuna.storages.BaseStorage,
    part: str = "validation",
    n_seeds: int = 2,
) -> SettingComparison:
    return compare_settings(objective, storage, "tiny", USUAL, BEST, part=part, n_seeds=n_seeds)


def spied_runs(
    objective: RetrievalObjective, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, object]]:
    """The arguments of every training from now on."""
    runs: list[dict[str, object]] = []
    run = objective.run

    def spy(setting, train_classes, evaluation_classes, *, seed, **others):  # type: ignore[no-untyped-def]
        runs.append({"train": train_classes, "evaluation": evaluation_classes, "seed": seed})
        return run(setting, train_classes, evaluation_classes, seed=seed, **others)

    monkeypatch.setattr(objective, "run", spy)
    return runs


def test_interval_is_students() -> None:
    interval = Interval.of(np.array([1.0, 2.0, 3.0]))
    # The 97.5 % quantile of Student's t with two degrees of freedom is 4.303.
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert not interval.excludes_zero


def test_one_value_has_no_interval() -> None:
    interval = Interval.of(np.array([1.0]))
    assert interval.half_width == math.inf
    assert str(interval) == "1.0000"


def test_seeds_are_fresh_and_paired(
    tiny_objective: Callable[..., RetrievalObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective(seed=7, repeats=3)
    runs = spied_runs(objective, monkeypatch)
    comparison = compared(objective, InMemoryStorage())
    assert [run["seed"] for run in runs] == [1007, 1007, 1008, 1008]
    assert comparison.seeds == (1007, 1008)
    difference = comparison.best["map_at_r"] - comparison.usual["map_at_r"]
    assert comparison.difference("map_at_r").mean == pytest.approx(difference.mean())


def test_only_the_test_comparison_touches_test_classes(
    tiny_objective: Callable[..., RetrievalObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective()
    (split,) = objective.splits
    runs = spied_runs(objective, monkeypatch)
    compared(objective, InMemoryStorage(), "validation", 1)
    assert {(run["train"], run["evaluation"]) for run in runs} == {(split.train, split.validation)}
    runs.clear()
    compared(objective, InMemoryStorage(), "test", 1)
    assert {(run["train"], run["evaluation"]) for run in runs} == {
        (split.train_and_validation, split.test)
    }


def test_trainings_of_another_objective_are_not_taken_for_ones_own(
    tiny_objective: Callable[..., RetrievalObjective],
) -> None:
    storage = InMemoryStorage()
    compared(tiny_objective(), storage, n_seeds=1)
    with pytest.raises(ValueError, match="'tiny.validation' is a study with embedding_dim 8"):
        compared(tiny_objective(embedding_dim=16), storage, n_seeds=1)


def test_an_interrupted_comparison_goes_on_where_it_was(
    tiny_objective: Callable[..., RetrievalObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()
    first = compared(objective, storage, n_seeds=1)
    runs = spied_runs(objective, monkeypatch)
    both = compared(objective, storage, n_seeds=2)
    assert len(runs) == 2
    assert both.best["map_at_r"][0] == first.best["map_at_r"][0]
