from __future__ import annotations

from collections.abc import Iterable
import math

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from cbal_optuna.losses import SplitTerms
from cbal_optuna.training.monitor import LossMonitor
from cbal_optuna.training.monitor import MOST_POINTS


CPU = torch.device("cpu")


def noted(monitor: LossMonitor, steps: Iterable[int]) -> None:
    """With the step as positive term and its square as entropy term."""
    for step in steps:
        terms = SplitTerms(torch.tensor(float(step)), torch.tensor(float(step**2)))
        monitor.add(step, terms, torch.zeros(2, 3))


def filled(n_steps: int) -> LossMonitor:
    monitor = LossMonitor(n_steps, CPU)
    noted(monitor, range(n_steps))
    return monitor


@pytest.mark.parametrize("n_steps", [1, 2, MOST_POINTS])
def test_a_short_training_has_a_point_for_each_step(n_steps: int) -> None:
    steps = list(range(n_steps))
    assert filled(n_steps).curve() == {"positive": steps, "entropy": [step**2 for step in steps]}


def test_a_long_training_has_the_means_of_its_parts() -> None:
    curve = filled(3 * MOST_POINTS).curve()
    assert curve["positive"] == [3 * i + 1 for i in range(MOST_POINTS)]
    assert curve["entropy"][0] == pytest.approx((0 + 1 + 4) / 3)


@settings(deadline=None)
@given(n_steps=st.integers(1, 400))
def test_each_step_counts_once_and_in_its_order(n_steps: int) -> None:
    positive = filled(n_steps).curve()["positive"]
    assert len(positive) == min(n_steps, MOST_POINTS)
    assert positive == sorted(positive)
    sizes = np.bincount(np.arange(n_steps) * len(positive) // n_steps)
    assert sizes @ positive == pytest.approx(sum(range(n_steps)))


@pytest.mark.parametrize("step", [0, 1, 37, 64, 99])
def test_it_goes_on_from_another(step: int) -> None:
    n_steps = 2 * MOST_POINTS
    first, rest = LossMonitor(n_steps, CPU), LossMonitor(n_steps, CPU)
    noted(first, range(step))
    rest.load_state_dict(first.state_dict())
    noted(rest, range(step, n_steps))
    assert rest.curve() == filled(n_steps).curve()


@settings(deadline=None)
@given(bad=st.dictionaries(st.integers(0, 199), st.booleans(), max_size=3), data=st.data())
def test_the_first_step_that_is_not_well_is_told(
    bad: dict[int, bool], data: st.DataObject
) -> None:
    """Whenever it is asked for."""
    looked_at = data.draw(st.sets(st.integers(0, 199)))
    monitor = LossMonitor(200, CPU)
    for step in range(200):
        value = math.inf if bad.get(step, False) else math.nan if step in bad else float(step)
        embeddings = torch.full((2, 3), math.nan if bad.get(step, False) else 1.0)
        monitor.add(step, SplitTerms(torch.tensor(value), torch.tensor(1.0)), embeddings)
        if step in looked_at:
            first = min((s for s in bad if s <= step), default=None)
            health = monitor.health()
            assert math.isfinite(health.value) == (first is None)
            if first is not None:
                assert math.isinf(health.value) == bad[first] != health.embeddings_finite


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_adding_does_not_wait_for_the_device() -> None:
    device, n_steps = torch.device("cuda"), 200
    monitor = LossMonitor(n_steps, device)
    terms, embeddings = SplitTerms(*torch.ones(2, device=device)), torch.ones(2, 3, device=device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(n_steps):
            monitor.add(step, terms, embeddings)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert monitor.curve()["positive"] == [1.0] * MOST_POINTS
