"""How ``benchmarks/real_runs.py`` goes on where it was ended, and what its table says."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.storage import open_storage


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def real_runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__("real_runs")


@pytest.fixture
def perform(
    real_runs: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tiny_objective: Callable[..., RetrievalObjective],
    tmp_path: Path,
) -> Callable[..., dict[str, Any]]:
    """Performs a tiny run in a storage; `on_step` is called before each training step."""
    run = real_runs.Run("cub", "tiny", 16, 8, "head only", 320, 3, (8, 16), (1e-3, 1e-2))

    def perform(storage: str, on_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        monkeypatch.setattr(
            real_runs,
            "objective_of",
            lambda run, options, **space: tiny_objective(
                space=SearchSpace(**space), on_step=on_step
            ),
        )
        *_, result = real_runs.results_of(
            "tiny",
            run,
            open_storage(f"sqlite:///{tmp_path}/{storage}"),
            argparse.Namespace(seeds=2),
        )
        return result

    return perform


def test_a_run_ended_time_and_again_arrives_at_the_same_result(
    perform: Callable[..., dict[str, Any]],
) -> None:
    def end_after(n_steps: int) -> Callable[[], None]:
        steps = count(1)

        def on_step() -> None:
            if next(steps) > n_steps:
                raise KeyboardInterrupt

        return on_step

    whole = perform("whole.db")
    n_ended = 0
    while True:
        try:
            result = perform("ended.db", end_after(40))
            break
        except KeyboardInterrupt:
            n_ended += 1
    assert n_ended > 3
    assert result == whole


def test_what_is_done_is_not_trained_again(perform: Callable[..., dict[str, Any]]) -> None:
    def on_step() -> None:
        raise AssertionError

    assert perform("study.db") == perform("study.db", on_step)


def test_rows_say_what_was_trained_on_what(
    real_runs: ModuleType, perform: Callable[..., dict[str, Any]]
) -> None:
    rows = real_runs.readme_table([perform("study.db")]).splitlines()[3:-1]
    for row, part in zip(rows, ("validation", "test"), strict=True):
        assert row.startswith("noisy colours 16 px, tiny")
        assert f"head only  320      3       {part} classes, MAP@R" in row
