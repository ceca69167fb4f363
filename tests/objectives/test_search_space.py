from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import FixedTrial
import pytest

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.objectives import BATCH_SIZES
from cbal_optuna.objectives import LOSSES
from cbal_optuna.objectives import SearchSpace


def enqueued(space: SearchSpace, setting: dict[str, Any]) -> dict[str, Any]:
    """What is suggested to a trial for which this setting was enqueued."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(space.searched(setting))
    return space.suggest(study.ask())


def test_balance_temperature_and_batch_size_are_searched_by_default() -> None:
    distributions = SearchSpace().distributions
    assert list(distributions) == ["balance", "temperature", "batch_size"]
    for name in ("balance", "temperature"):
        distribution = distributions[name]
        assert isinstance(distribution, FloatDistribution) and distribution.log


def test_the_margin_takes_the_temperatures_place() -> None:
    distributions = SearchSpace("margin").distributions
    assert list(distributions) == ["balance", "margin", "aggregation", "batch_size"]
    assert isinstance(distributions["margin"], FloatDistribution)
    assert not distributions["margin"].log


@pytest.mark.parametrize("loss", LOSSES)
def test_batch_sizes_are_ordered_powers_of_two(loss: str) -> None:
    distribution = SearchSpace(loss).distributions["batch_size"]
    assert isinstance(distribution, CategoricalDistribution)
    assert distribution.choices == BATCH_SIZES == tuple(sorted(BATCH_SIZES))
    assert all(math.log2(size).is_integer() for size in BATCH_SIZES)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_setting_has_every_hyper_parameter(loss: str) -> None:
    space = SearchSpace(loss)
    suggested = space.suggest(optuna.create_study().ask())
    assert list(suggested) == list(space.start) == list(space.usual)
    assert {"learning_rate", "weight_decay"} < set(suggested)


def test_any_hyper_parameter_can_be_searched_or_fixed() -> None:
    space = SearchSpace(
        learning_rate=FloatDistribution(1e-4, 1e-2, log=True),
        weight_decay=CategoricalDistribution((0.0, 0.1)),
        denominator=CategoricalDistribution(("negatives", "all")),
        batch_size=IntDistribution(8, 64, step=8),
        temperature=0.05,
    )
    given = {
        "balance": 3.0,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "denominator": "all",
        "batch_size": 24,
    }
    assert set(space.distributions) == set(given)
    assert space.suggest(FixedTrial(given)) == {**given, "temperature": 0.05}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_trial_is_suggested_from_the_distributions(loss: str) -> None:
    space = SearchSpace(
        loss, balance=FloatDistribution(0.5, 8.0, step=0.5), batch_size=IntDistribution(4, 64)
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    space.suggest(trial)
    assert trial.distributions == space.distributions


def test_the_usual_setting_is_what_people_run() -> None:
    assert SearchSpace().searched(SearchSpace().usual) == {
        "balance": 1.0,
        "temperature": 0.1,
        "batch_size": 128,
    }
    usual = SearchSpace("margin").usual
    assert (usual["balance"], usual["margin"], usual["aggregation"]) == (1.0, 0.5, "nonzero")


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ({"balance": FloatDistribution(2.0, 8.0)}, 2.0),
        ({"balance": FloatDistribution(0.1, 0.5, log=True)}, 0.5),
        ({"balance": FloatDistribution(0.3, 3.3, step=0.5)}, 0.8),
        ({"balance": FloatDistribution(0.6, 3.6, step=0.5)}, 1.1),
        ({"balance": CategoricalDistribution((0.5, 4.0))}, 0.5),
        ({"balance": 5.0}, 5.0),
        ({"batch_size": IntDistribution(16, 512, log=True)}, 128),
        ({"batch_size": IntDistribution(40, 520, step=40)}, 120),
        ({"batch_size": CategoricalDistribution((16, 64, 1024))}, 64),
        ({"batch_size": 48}, 48),
        ({"learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}, 1e-3),
        ({"weight_decay": FloatDistribution(0.0, 0.5)}, 1e-4),
        ({"weight_decay": CategoricalDistribution((0.0, 0.5))}, 0.0),
        ({"denominator": CategoricalDistribution(("all", "negatives"))}, "negatives"),
    ],
)
def test_the_start_is_the_usual_value_or_the_nearest_allowed(
    parameter: dict[str, Any], expected: Any
) -> None:
    (name,) = parameter
    space = SearchSpace(**parameter)
    assert space.start[name] == (expected if name == "denominator" else pytest.approx(expected))
    assert enqueued(space, space.start) == space.start


@pytest.mark.parametrize("choices", [(0.0, 0.4, 0.8), (-0.5, 0.4)])
def test_margins_need_not_be_positive(choices: tuple[float, ...]) -> None:
    space = SearchSpace("margin", margin=CategoricalDistribution(choices))
    assert space.usual["margin"] == 0.4


@st.composite
def distributions(draw: st.DrawFn) -> BaseDistribution:
    low, high = sorted(draw(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=2)))
    kind = draw(st.sampled_from(["linear", "log", "step", "categorical"]))
    if kind == "step":
        step = draw(st.sampled_from([0.01, 0.1, 0.25, 3.0]))
        return FloatDistribution(low, low + draw(st.integers(0, 50)) * step, step=step)
    if kind == "categorical":
        return CategoricalDistribution((low, high))
    return FloatDistribution(low, high, log=kind == "log")


@pytest.mark.filterwarnings("ignore:The distribution is specified by")
@given(balance=distributions(), temperature=distributions(), learning_rate=distributions())
def test_usual_setting_and_start_can_always_be_suggested(
    **parameters: BaseDistribution,
) -> None:
    space = SearchSpace(**parameters)
    for setting in (space.usual, space.start):
        for name, distribution in space.distributions.items():
            value = distribution.to_internal_repr(setting[name])
            assert distribution._contains(value), (name, setting[name])


@given(low=st.integers(1, 300), n_steps=st.integers(0, 20), step=st.integers(1, 300))
def test_stepped_batch_sizes_start_at_one_of_theirs(low: int, n_steps: int, step: int) -> None:
    space = SearchSpace(batch_size=IntDistribution(low, low + n_steps * step, step=step))
    size = space.start["batch_size"]
    assert isinstance(size, int)
    assert space.distributions["batch_size"]._contains(size)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_searched_part_completes_to_the_setting(loss: str) -> None:
    space = SearchSpace(loss)
    assert set(space.searched(space.start)) == set(space.distributions)
    assert space.completed(space.searched(space.start)) == space.start


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (CategoricalDistribution((8, 32)), [8, 32]),
        (IntDistribution(8, 64, log=True), [8, 64]),
        (16, [16]),
    ],
)
def test_batch_sizes_are_listed(sizes: Any, expected: list[int]) -> None:
    assert SearchSpace(batch_size=sizes).batch_sizes == expected


def test_a_description_survives_json_and_tells_spaces_apart() -> None:
    spaces = [
        SearchSpace(),
        SearchSpace("margin"),
        SearchSpace(balance=2.0),
        SearchSpace(balance=FloatDistribution(1.0, 2.0)),
        SearchSpace(balance=FloatDistribution(1.0, 2.0, log=True)),
        SearchSpace(learning_rate=0.5),
        SearchSpace(batch_size=CategoricalDistribution((32, 64))),
    ]
    described = [json.dumps(space.description) for space in spaces]
    assert len(set(described)) == len(spaces)
    assert json.loads(described[0]) == SearchSpace().description


@pytest.mark.parametrize(
    ("loss", "parameter"),
    [
        ("infonce", {"margin": 0.5}),
        ("margin", {"temperature": 0.5}),
        ("infonce", {"balance": 0.0}),
        ("infonce", {"balance": -1.0}),
        ("infonce", {"balance": "1"}),
        ("infonce", {"balance": None}),
        ("infonce", {"balance": True}),
        ("infonce", {"balance": math.nan}),
        ("infonce", {"balance": math.inf}),
        ("infonce", {"balance": CategoricalDistribution((1.0, "2"))}),
        ("infonce", {"temperature": FloatDistribution(0.0, 1.0)}),
        ("infonce", {"denominator": "positives"}),
        ("infonce", {"denominator": CategoricalDistribution(("all", "none"))}),
        ("infonce", {"batch_size": 32.0}),
        ("infonce", {"batch_size": 0}),
        ("infonce", {"batch_size": FloatDistribution(8.0, 16.0)}),
        ("infonce", {"batch_size": CategoricalDistribution((8, 12.5))}),
        ("infonce", {"learning_rate": 0.0}),
        ("infonce", {"weight_decay": -0.1}),
        ("margin", {"margin": 1.5}),
        ("margin", {"margin": FloatDistribution(0.0, 5.0)}),
        ("margin", {"margin": CategoricalDistribution((0.1, -2.0))}),
        ("margin", {"aggregation": "mean"}),
    ],
)
def test_what_does_not_fit_is_named(loss: str, parameter: dict[str, Any]) -> None:
    (name,) = parameter
    with pytest.raises(ValueError, match=f"`{name}` is "):
        SearchSpace(loss, **parameter)


@pytest.mark.parametrize("value", [[16, 32], (16, 32), {"low": 16, "high": 32}, None])
def test_what_is_neither_a_value_nor_a_distribution_is_told_so(value: Any) -> None:
    with pytest.raises(ValueError, match="should be a number or a word, or a float, int or"):
        SearchSpace(batch_size=value)


def test_there_is_no_third_loss() -> None:
    with pytest.raises(ValueError, match="`loss` is 'triplet'.*infonce, margin"):
        SearchSpace("triplet")


@pytest.mark.parametrize(
    ("loss", "make"), [("infonce", SplitInfoNCELoss), ("margin", SplitMarginLoss)]
)
def test_every_end_of_the_default_ranges_is_fit_for_the_loss(loss: str, make: Any) -> None:
    training = {"batch_size", "learning_rate", "weight_decay"}
    for name, distribution in SearchSpace(loss).distributions.items():
        if name not in training:
            ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
            for end in ends:
                assert getattr(make(**{name: end}), name) == end
