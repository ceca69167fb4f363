"""Optuna's own test suite for samplers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase
from optuna.testing.pytest_samplers import RelativeSamplerTestCase
from optuna.testing.pytest_samplers import SingleOnlySamplerTestCase
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.search import LINE_SEARCHES


OPTION_SETS = {
    **{line_search: {"line_search": line_search} for line_search in LINE_SEARCHES},
    "seeded": {"seed": 0},
    "short steps": {"initial_step": 0.1, "tolerance": 0.05},
    "tpe independent": {"independent_sampler": TPESampler(seed=0)},
    "quiet": {"warn_independent_sampling": False, "order": ["x", "b"]},
}


@pytest.fixture(params=OPTION_SETS, scope="module")
def options(request: pytest.FixtureRequest) -> dict[str, object]:
    return OPTION_SETS[request.param]


class TestCoordinateDescentSampler(
    BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
):
    @pytest.fixture
    def sampler(self, options: dict[str, object]) -> Callable[[], BaseSampler]:
        return partial(CoordinateDescentSampler, **options)
