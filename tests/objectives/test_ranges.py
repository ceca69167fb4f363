from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
import pytest
import yaml

from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import SelfSupervisedSpace


POSITIVE = st.floats(1e-6, 1e6)


@st.composite
def intervals(draw: st.DrawFn) -> Any:
    low, high = sorted((draw(POSITIVE), draw(POSITIVE)))
    if draw(st.booleans()):
        return FloatDistribution(low, high, log=draw(st.booleans()))
    whole = int(low) + 1, int(high) + 1
    return IntDistribution(*whole, log=draw(st.booleans()))


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    loss = draw(st.sampled_from(["infonce", "margin"]))
    parameter = (
        POSITIVE | intervals() | st.lists(POSITIVE, min_size=1).map(CategoricalDistribution)
    )
    sizes = st.integers(1, 512)
    own = {"infonce": "denominator", "margin": "aggregation"}[loss]
    words = {"infonce": ["all", "negatives"], "margin": ["all", "nonzero", "anchor_sum"]}[loss]
    parameters = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "balance": parameter,
                "learning_rate": parameter,
                "weight_decay": parameter,
                "batch_size": sizes | st.lists(sizes, min_size=1).map(CategoricalDistribution),
                own: st.sampled_from(words) | st.just(CategoricalDistribution(words)),
            },
        )
    )
    return draw(st.sampled_from([SearchSpace, SelfSupervisedSpace]))(loss, **parameters)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(space=spaces())
def test_a_space_comes_back_from_yaml_and_json(space: SearchSpace) -> None:
    plain = space.to_dict()
    for back in (json.loads(json.dumps(plain)), yaml.safe_load(yaml.safe_dump(plain))):
        again = type(space).from_dict(back)
        assert (again.loss, again.description) == (space.loss, space.description)
        assert (again.usual, again.start) == (space.usual, space.start)


def test_what_a_file_does_not_name_is_as_usual() -> None:
    space = SearchSpace.from_dict({"balance": {"low": 1, "high": 8}, "temperature": 0.2})
    assert space.distributions["balance"] == FloatDistribution(1, 8)
    assert "temperature" not in space.distributions
    assert space.distributions["batch_size"] == SearchSpace().distributions["batch_size"]


def test_an_interval_of_batch_sizes_is_of_whole_numbers() -> None:
    space = SearchSpace.from_dict({"batch_size": {"low": 32, "high": 128, "step": 32}})
    assert space.distributions["batch_size"] == IntDistribution(32, 128, step=32)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([], "The space is \\[\\]"),
        ({"loss": "triplet"}, "`loss` is 'triplet'"),
        ({"balnce": 1}, "`balnce` is no hyper-parameter of the infonce loss"),
        ({"self": 1}, "`self` is no hyper-parameter of the infonce loss"),
        ({"balance": None}, "`balance` is None; it should be a number or a word"),
        ({"balance": []}, "`balance` is \\[\\]; it should be a number or a word"),
        ({"balance": [[1]]}, "`balance` is \\[\\[1\\]\\]; it should be a number or a word"),
        ({"balance": {"low": 1}}, "`balance` .* should have low and high"),
        ({"balance": {"low": 1, "hi": 2}}, "`balance` has 'hi'"),
        ({"balance": {"low": 2, "high": 1}}, "`balance` .* no interval: `low <= high`"),
        ({"balance": {"low": "a", "high": 1}}, "`low` of `balance` is 'a'; .* a number"),
        ({"balance": {"low": True, "high": 1}}, "`low` of `balance` is True; .* a number"),
        ({"balance": {"low": 1, "high": float("nan")}}, "`high` of `balance` is nan"),
        ({"balance": {"low": 1, "high": 10**400}}, "`high` of `balance` is 10"),
        ({"balance": {"low": 1, "high": 2, "log": 1}}, "`log` of `balance` is 1; .*true or false"),
        ({"balance": {"low": 1, "high": 2, "log": True, "step": 1}}, "no interval: .*step"),
        ({"balance": {"low": 1, "high": 9, "step": 5e-324}}, "`balance` .* no interval"),
        ({"balance": {"low": -1, "high": 2}}, "`balance` .* should be positive"),
        ({"batch_size": {"low": 8, "high": 9.5}}, "`batch_size` .* whole numbers"),
        ({"batch_size": {"low": 8, "high": 10**20}}, "`batch_size` .* whole numbers up to"),
    ],
)
def test_what_is_no_space_is_told(plain: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchSpace.from_dict(plain)
