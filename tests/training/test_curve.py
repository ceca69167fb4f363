from __future__ import annotations

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import torch

from cbal_optuna.losses import SplitTerms
from cbal_optuna.training.curve import MOST_POINTS
from cbal_optuna.training.curve import TermSums


CPU = torch.device("cpu")


def filled(n_steps: int) -> TermSums:
    """With the step as positive term and its square as entropy term."""
    sums = TermSums(n_steps, CPU)
    for step in range(n_steps):
        sums.add(step, SplitTerms(torch.tensor(float(step)), torch.tensor(float(step**2))))
    return sums


@pytest.mark.parametrize("n_steps", [1, 2, MOST_POINTS])
def test_a_short_training_has_a_point_for_each_step(n_steps: int) -> None:
    steps = list(range(n_steps))
    assert filled(n_steps).curve() == {"positive": steps, "entropy": [step**2 for step in steps]}


def test_a_long_training_has_the_means_of_its_parts() -> None:
    curve = filled(3 * MOST_POINTS)
    assert curve.curve()["positive"] == [3 * i + 1 for i in range(MOST_POINTS)]
    assert curve.curve()["entropy"][0] == pytest.approx((0 + 1 + 4) / 3)


@settings(deadline=None)
@given(n_steps=st.integers(1, 400))
def test_each_step_counts_once_and_in_its_order(n_steps: int) -> None:
    sums = filled(n_steps)
    positive = sums.curve()["positive"]
    assert len(positive) == min(n_steps, MOST_POINTS)
    assert positive == sorted(positive) and positive[0] < n_steps / len(positive)
    assert sums.total().positive == sum(range(n_steps))


def test_sums_go_on_from_others() -> None:
    n_steps = 2 * MOST_POINTS
    whole, first = filled(n_steps), TermSums(n_steps, CPU)
    rest = TermSums(n_steps, CPU)
    for step in range(n_steps):
        terms = SplitTerms(torch.tensor(float(step)), torch.tensor(float(step**2)))
        if step == 37:
            rest.load(first.sums)
        (first if step < 37 else rest).add(step, terms)
    assert rest.curve() == whole.curve()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_adding_does_not_wait_for_the_device() -> None:
    device = torch.device("cuda")
    sums, terms = TermSums(7, device), SplitTerms(*torch.ones(2, device=device))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(7):
            sums.add(step, terms)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sums.curve()["positive"] == [1.0] * 7
