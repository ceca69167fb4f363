from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.storages import InMemoryStorage
import pytest

from cbal_optuna.named_samplers import named_sampler
from cbal_optuna.named_samplers import SAMPLERS
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.study import open_study


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_searches(name: str) -> None:
    study = optuna.create_study(sampler=named_sampler(name, {"x": 0.5}, 0, {}))
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0) ** 2, 3)
    assert len(study.trials) == 3


def test_options_are_those_of_the_sampler(
    tiny_objective: Callable[..., RetrievalObjective],
) -> None:
    paths = []
    for options in ({}, {"line_search": "parabolic"}, {"initial_step": 0.1}):
        objective = tiny_objective()
        study = open_study("tiny", InMemoryStorage(), objective, "cd", 0, sampler_options=options)
        study.optimize(objective, 4)
        paths.append([trial.params for trial in study.trials])
    assert paths[0] != paths[1] != paths[2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cd", {"step": 1}, "`sampler_options` has 'step'; those of the sampler 'cd' are: line_"),
        ("cd", {"seed": 1}, "`sampler_options` has 'seed'"),
        ("random", {"x": 1}, "those of the sampler 'random' are: none"),
        ("cd", {"initial_step": "far"}, "'initial_step' 'far'; it should be a number"),
        ("cd", {"initial_step": True}, "'initial_step' True; it should be a number"),
        ("cd", {"initial_step": 7}, "`initial_step` is 7"),
        ("cd", {"line_search": 1}, "'line_search' 1; it should be a word"),
        ("cd", {"line_search": "newton"}, "`line_search` is 'newton'"),
        ("gp", {"n_startup_trials": 1.5}, "'n_startup_trials' 1.5; it should be a whole number"),
        ("gp", {"deterministic_objective": 1}, "it should be true or false"),
    ],
)
def test_wrong_options_are_told(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_sampler(name, {}, 0, options)
