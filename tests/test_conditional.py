"""Which other parameter decides which trials have one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import create_trial
import pytest

from cbal_optuna.conditional import Parameters
from cbal_optuna.search import Condition


SPACE: dict[str, BaseDistribution] = {
    "loss": CategoricalDistribution(["infonce", "margin", "triplet"]),
    "sizes": CategoricalDistribution([32, 64, 128]),
    "layers": IntDistribution(1, 5),
    "seed": IntDistribution(0, 10**6),
    "balance": FloatDistribution(0.1, 10.0, log=True),
    "margin": FloatDistribution(0.0, 1.0),
    "width": IntDistribution(8, 64),
}


def parameters_of(trials: Iterable[dict[str, Any]], **changed: BaseDistribution) -> Parameters:
    parameters = Parameters()
    for params in trials:
        distributions = {name: {**SPACE, **changed}[name] for name in params}
        parameters.add(create_trial(value=0.0, params=params, distributions=distributions))
    return parameters


def conditions_of(parameters: Parameters) -> tuple[Condition, ...]:
    return parameters.space(parameters.distributions).conditions


def test_without_trials_nothing_is_known() -> None:
    parameters = Parameters()
    assert parameters.common is None
    assert parameters.distributions == {}
    assert conditions_of(parameters) == ()
    assert not parameters.knows("loss")


def test_a_parameter_may_depend_on_the_choice_of_a_categorical() -> None:
    parameters = parameters_of(
        [
            {"loss": "infonce", "balance": 1.0},
            {"loss": "margin", "balance": 1.0, "margin": 0.5},
            {"loss": "margin", "balance": 2.0, "margin": 0.1},
        ]
    )
    assert list(parameters.common or ()) == ["balance", "loss"]
    assert list(parameters.distributions) == ["balance", "loss", "margin"]
    # Nothing is known of triplets.
    assert conditions_of(parameters) == (Condition("margin", "loss", ((0.0, 0.0),)),)
    assert parameters.knows("margin")


@pytest.mark.parametrize(
    ("layers", "without"),
    [
        ({1: False, 2: False, 4: True, 5: True}, (0.0, 0.25)),
        ({1: True, 2: True, 4: False, 5: False}, (0.75, 1.0)),
        ({1: True, 2: False, 4: True, 5: True}, None),
    ],
)
def test_a_parameter_may_depend_on_a_number_being_above_or_below_some_value(
    layers: dict[int, bool], without: tuple[float, float] | None
) -> None:
    parameters = parameters_of(
        {"layers": n, **({"width": 16} if has_width else {})} for n, has_width in layers.items()
    )
    expected = (Condition("width", "layers", (without,)),) if without else ()
    assert conditions_of(parameters) == expected
    assert list(parameters.distributions) == ["layers", "width"][: 1 + len(expected)]


def test_what_no_parameter_explains_is_not_searched() -> None:
    parameters = parameters_of(
        [
            {"loss": "infonce"},
            {"loss": "infonce", "margin": 0.5},
            {"loss": "margin", "margin": 0.5},
        ]
    )
    assert list(parameters.distributions) == ["loss"]
    assert parameters.knows("margin")


def test_a_parameter_added_to_a_study_does_not_depend_on_one_of_many_values() -> None:
    parameters = parameters_of([{"seed": 3}, {"seed": 70}, {"seed": 600, "margin": 0.5}])
    assert conditions_of(parameters) == ()


def test_a_parameter_of_several_ranges_is_not_searched() -> None:
    trials = [{"loss": "infonce"}, {"loss": "margin", "margin": 0.5}]
    parameters = parameters_of(trials)
    for trial in trials:
        wider = {**SPACE, "margin": FloatDistribution(0.0, 2.0)}
        distributions = {name: wider[name] for name in trial}
        parameters.add(create_trial(value=0.0, params=trial, distributions=distributions))
    assert list(parameters.distributions) == ["loss"]


def test_one_without_an_order_is_thought_to_decide_before_others() -> None:
    parameters = parameters_of(
        [
            {"layers": 1, "loss": "infonce", "sizes": 32},
            {"layers": 2, "loss": "margin", "sizes": 64, "margin": 0.5},
        ]
    )
    assert [c.on for c in conditions_of(parameters)] == ["loss"]


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_choices_that_cannot_be_hashed_may_decide() -> None:
    choices = CategoricalDistribution(([1], [2]))  # type: ignore[arg-type]
    trials = [{"sizes": [1]}, {"sizes": [2], "margin": 0.5}]
    parameters = parameters_of(trials, sizes=choices)
    assert [c.name for c in conditions_of(parameters)] == ["margin"]


def test_what_depends_on_a_parameter_that_is_not_searched_is_not_searched_either() -> None:
    parameters = parameters_of([{"loss": "infonce"}, {"loss": "margin", "margin": 0.5}])
    balance_and_margin = {name: SPACE[name] for name in ("balance", "margin")}
    assert parameters.space(balance_and_margin).names == ["balance"]
