"""The sampler in a study: what it reads from the trials, and what it makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import copy
import logging
import math
from pathlib import Path
import pickle
import re
import threading
from typing import Any
import warnings

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler
from optuna.samplers import PartialFixedSampler
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.storages import InMemoryStorage
from optuna.storages import JournalStorage
from optuna.storages import RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.sampler import EXPLANATION
from cbal_optuna.search import Axis
from cbal_optuna.stored_trials import retry_callback


BALANCE = FloatDistribution(0.1, 10.0, log=True)
TEMPERATURE = FloatDistribution(0.01, 1.0, log=True)
BATCH_SIZE = CategoricalDistribution([32, 64, 128, 256])
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SPACE = {"balance": BALANCE, "temperature": TEMPERATURE, "batch_size": BATCH_SIZE}
X0 = {"balance": 1.0, "temperature": 0.1, "batch_size": 128}


def suggest(trial: Trial) -> dict[str, Any]:
    return {
        "balance": trial.suggest_float("balance", 0.1, 10.0, log=True),
        "temperature": trial.suggest_float("temperature", 0.01, 1.0, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
    }


def loss_of(params: dict[str, Any]) -> float:
    """Smooth, with its minimum 0 at balance 3, temperature 0.05 and batch size 64."""
    return (
        math.log(params["balance"] / 3.0) ** 2
        + math.log(params["temperature"] / 0.05) ** 2
        + 0.2 * abs(math.log2(params["batch_size"] / 64))
    )


def objective(trial: Trial) -> float:
    return loss_of(suggest(trial))


def new_study(sampler: BaseSampler | None = None, **options: Any) -> Study:
    return optuna.create_study(sampler=sampler or CoordinateDescentSampler(seed=0), **options)


def settings_of(trials: Sequence[FrozenTrial]) -> list[tuple[Any, ...]]:
    return [tuple(trial.params[name] for name in sorted(trial.params)) for trial in trials]


def params_after(n_trials: int, sampler: BaseSampler | None = None, **options: Any) -> list[Any]:
    study = new_study(sampler, **options)
    study.optimize(objective, n_trials)
    return [trial.params for trial in study.trials]


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    if request.param == "sqlite":
        return RDBStorage(f"sqlite:///{tmp_path}/study.db")
    if request.param == "journal":
        return JournalStorage(JournalFileBackend(f"{tmp_path}/study.log"))
    return InMemoryStorage()


# The start and the options


def test_the_first_trial_is_x0() -> None:
    assert params_after(1, CoordinateDescentSampler(x0=X0)) == [X0]


def test_without_x0_the_first_trial_is_the_middle() -> None:
    assert params_after(1)[0] == {
        "balance": pytest.approx(1.0),
        "temperature": pytest.approx(0.1),
        "batch_size": 128,
    }


def test_x0_is_not_rounded() -> None:
    x0 = {"balance": 1.23456789, "temperature": 0.07, "batch_size": 64}
    study = new_study(CoordinateDescentSampler(x0=x0))
    study.enqueue_trial(X0)
    study.optimize(objective, 4)

    assert study.trials[1].params == x0
    assert all(set(t.params.values()) & set(x0.values()) for t in study.trials[2:])


def test_x0_may_name_some_parameters_and_others_that_do_not_exist() -> None:
    sampler = CoordinateDescentSampler(x0={"temperature": 0.3, "margin": 0.5})

    assert params_after(1, sampler)[0]["temperature"] == 0.3


def test_the_first_of_several_trials_asked_for_at_once_is_x0() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    trials = [study.ask() for _ in range(4)]
    settings = [suggest(trial) for trial in trials]

    assert settings[0] == X0
    assert len({tuple(s.values()) for s in settings}) == 4


def test_a_first_trial_with_some_parameters_enqueued_has_the_others_of_x0() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    study.enqueue_trial({"balance": 5.0})
    study.enqueue_trial({"balance": 7.0})
    study.optimize(objective, 1)

    assert study.trials[0].params == {**X0, "balance": 5.0}


def test_x0_is_given_as_python_numbers_and_as_the_choice_itself() -> None:
    x0 = {"balance": np.float32(0.5), "temperature": np.float64(0.5), "batch_size": 64.0}
    params = params_after(1, CoordinateDescentSampler(x0=x0))[0]

    assert [type(params[name]) for name in SPACE] == [float, float, int]
    assert list(params.values()) == [0.5, 0.5, 64]


@pytest.mark.parametrize(
    "distribution, value",
    [
        (BALANCE, 0.0),
        (BALANCE, 11.0),
        (BALANCE, float("nan")),
        (BALANCE, float("inf")),
        (BALANCE, "1"),
        (BALANCE, None),
        (FloatDistribution(0.0, 1.0, step=0.25), 0.3),
        (IntDistribution(0, 10), 2.5),
        (IntDistribution(0, 10), -1),
        (IntDistribution(0, 10), 10**400),
        (IntDistribution(0, 10, step=5), 7),
        (BATCH_SIZE, 48),
        (BATCH_SIZE, "64"),
        (CategoricalDistribution(["a", None]), "b"),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_before", [0, 2])
def test_an_x0_outside_its_range_is_refused(distribution: Any, value: Any, n_before: int) -> None:
    study = new_study(CoordinateDescentSampler(seed=0))
    study.optimize(lambda trial: float(trial._suggest("x", distribution) is None), n_before)
    study.sampler = CoordinateDescentSampler(x0={"x": value})

    with pytest.raises(ValueError, match=r"`x0\['x'\]` is .*; it should be in"):
        study.ask()._suggest("x", distribution)


def messages_of(sampler: BaseSampler, objective: Callable[[Trial], float]) -> list[str]:
    """What a study of six trials warns of."""
    study = new_study(sampler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        study.optimize(objective, 6)
    return [str(w.message) for w in caught if w.category is UserWarning]


def test_a_misspelt_name_in_x0_is_warned_of_once() -> None:
    sampler = CoordinateDescentSampler(x0={"balnce": 2.0, "temperature": 0.1}, seed=0)
    assert messages_of(sampler, objective) == [
        "`x0` names 'balnce', which no trial has asked for, and not 'balance'; the parameters are "
        "balance, batch_size, temperature"
    ]
    assert messages_of(pickle.loads(pickle.dumps(sampler)), objective) == []


@pytest.mark.parametrize("x0", [X0, {"loss": "margin", "margin": 0.2, "temperature": 0.1}])
def test_names_that_may_be_of_trials_to_come_are_not_warned_of(x0: dict[str, Any]) -> None:
    def two_losses(trial: Trial) -> float:
        balance = trial.suggest_float("balance", 0.1, 10.0, log=True)
        if trial.suggest_categorical("loss", ["infonce", "margin"]) == "infonce":
            return balance + trial.suggest_float("temperature", 0.01, 1.0, log=True)
        return balance + trial.suggest_float("margin", 0.0, 1.0)

    assert messages_of(CoordinateDescentSampler(x0=x0, seed=0), two_losses) == []


def test_names_are_those_of_the_whole_study() -> None:
    study = new_study(RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("margin_a", 0.0, 1.0), 1)
    study.optimize(lambda trial: trial.suggest_float("margin_b", 0.0, 1.0), 1)
    study.sampler = CoordinateDescentSampler(x0={"margin_a": 0.5}, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        study.ask().suggest_float("margin_a", 0.0, 1.0)


@pytest.mark.parametrize(
    "option, value",
    [
        ("line_search", "golden"),
        ("initial_step", 0.0),
        ("initial_step", -0.1),
        ("initial_step", 1.1),
        ("initial_step", float("nan")),
        ("tolerance", 0.0),
        ("tolerance", 0.3),
        ("tolerance", float("nan")),
        ("initial_step", "a"),
        ("tolerance", None),
        ("order", "balance"),
        ("order", ["balance", "balance"]),
        ("seed", -1),
        ("seed", "a"),
        ("seed", 1.5),
    ],
)
def test_an_option_out_of_range_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{option}` is "):
        CoordinateDescentSampler(**{option: value})


@pytest.mark.parametrize(
    "order, expected",
    [
        (None, ["balance", "batch_size", "temperature"]),
        (["temperature"], ["temperature", "balance", "batch_size"]),
        (["batch_size", "unknown", "balance"], ["batch_size", "balance", "temperature"]),
    ],
)
def test_parameters_are_searched_in_order(order: list[str] | None, expected: list[str]) -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, order=order))
    study.optimize(lambda trial: float(bool(suggest(trial))), 4)
    changed = [{n for n in X0 if t.params[n] != X0[n]} for t in study.trials[1:]]

    assert list(dict.fromkeys(name for names in changed for name in names)) == expected
    assert all(len(names) == 1 for names in changed)


# The search


def test_the_optimum_is_found() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    study.optimize(objective, 30)

    assert study.best_value < 0.01
    assert study.best_params["batch_size"] == 64


def test_maximising_is_minimising_the_negative() -> None:
    study = new_study(direction="maximize")
    study.optimize(lambda trial: -objective(trial), 30)

    assert [trial.params for trial in study.trials] == params_after(30)


@pytest.mark.parametrize("n_trials", [15, 30])
def test_it_is_ahead_of_random_search(n_trials: int) -> None:
    bests = []
    for seed in range(15):
        study = new_study(RandomSampler(seed=seed))
        study.optimize(objective, n_trials)
        bests.append(study.best_value)
    study = new_study(CoordinateDescentSampler(x0=X0))
    study.optimize(objective, n_trials)

    assert study.best_value < np.median(bests) / 2.0


def test_a_small_space_is_exhausted_and_then_its_best_point_repeated() -> None:
    study = new_study()
    study.optimize(lambda trial: abs(trial.suggest_int("n", 0, 4) - 3), 8)
    values = [trial.params["n"] for trial in study.trials]

    assert sorted(values[:5]) == [0, 1, 2, 3, 4]
    assert values[5:] == [3, 3, 3]


def test_values_are_of_their_own_types() -> None:
    choices = [None, True, "adam", 0.5, float("nan")]

    def mixed(trial: Trial) -> float:
        drawn = [
            trial.suggest_float("x", 0.0, 1.0),
            trial.suggest_float("step", 0.0, 1.0, step=0.1),
            trial.suggest_int("n", 1, 100, log=True),
            trial.suggest_categorical("b", [32, 64, 128]),
        ]
        assert [type(value) for value in drawn] == [float, float, int, int]
        choice = trial.suggest_categorical("c", choices)
        assert any(choice is c for c in choices)
        return float(drawn[0])

    study = new_study()
    study.optimize(mixed, 40)

    assert {str(trial.params["c"]) for trial in study.trials} == set(map(str, choices))


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(-1e308, 1e308),
        FloatDistribution(1e-300, 1e300, log=True),
        IntDistribution(0, 10**7),
        IntDistribution(-(2**52), 2**52),
        IntDistribution(1, 10**9, log=True),
        FloatDistribution(0.0, 1.0, step=1e-5),
    ],
    ids=str,
)
def test_extreme_ranges_are_searched(distribution: Any) -> None:
    study, axis = new_study(), Axis("x", distribution)
    study.optimize(lambda trial: abs(axis.encode(trial._suggest("x", distribution)) - 0.7), 40)

    assert len(set(settings_of(study.trials))) == 40
    assert study.best_value < 0.02


# Where the state is


@pytest.mark.parametrize("n_trials", [1, 4, 7])
def test_stopping_and_going_on_is_the_same_as_one_go(storage: BaseStorage, n_trials: int) -> None:
    study = new_study(storage=storage)
    for _ in range(28 // n_trials):
        study = optuna.load_study(
            study_name=study.study_name,
            storage=storage,
            sampler=CoordinateDescentSampler(seed=0),
        )
        study.optimize(objective, n_trials)

    assert [trial.params for trial in study.trials] == params_after(28)


def test_the_workers_of_a_study_agree_without_a_seed() -> None:
    def decide(study: Study) -> dict[str, Any]:
        study.sampler = CoordinateDescentSampler()
        return suggest(study.ask())

    study = new_study(CoordinateDescentSampler())
    study.optimize(lambda trial: float(bool(suggest(trial))), 60)
    trials = study.trials
    decisions = []
    for _ in range(2):
        other = optuna.create_study(study_name=study.study_name, storage=InMemoryStorage())
        other.add_trials(trials)
        decisions.append(decide(other))

    assert decisions[0] == decisions[1]


def test_different_seeds_start_again_at_different_points() -> None:
    a, b = (
        params_after(60, CoordinateDescentSampler(line_search="parabolic", seed=seed))
        for seed in (0, 1)
    )

    assert a[:15] == b[:15]
    assert a != b


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_of_the_sampler_decides_the_same(
    copy_of: Callable[[BaseSampler], BaseSampler],
) -> None:
    sampler = CoordinateDescentSampler(x0=X0, seed=0, independent_sampler=RandomSampler(seed=0))
    study = new_study(sampler)
    study.optimize(objective, 5)
    study.sampler = copy_of(sampler)
    study.optimize(objective, 5)

    assert [t.params for t in study.trials] == params_after(
        10, CoordinateDescentSampler(x0=X0, seed=0)
    )


def test_a_sampler_keeps_nothing_from_one_study_for_another() -> None:
    sampler = CoordinateDescentSampler(seed=0)
    study = new_study(sampler)
    study.optimize(lambda trial: trial.suggest_int("balance", 0, 9), 20)

    assert pickle.dumps(sampler) == pickle.dumps(CoordinateDescentSampler(seed=0))
    assert params_after(20, sampler) == params_after(20)


def test_reseeding_for_parallel_work_changes_no_decision() -> None:
    sampler = CoordinateDescentSampler(seed=0)
    sampler.reseed_rng()

    assert params_after(60, sampler) == params_after(60)


def test_a_float32_echo_of_the_parameters_is_recognised() -> None:
    study, echo = new_study(), new_study()
    for _ in range(20):
        trial = study.ask()
        params = suggest(trial)
        for name in ("balance", "temperature"):
            params[name] = max(0.01, float(np.float32(params[name])))
        value = loss_of(params)
        study.tell(trial, value)
        echo.add_trial(create_trial(params=params, distributions=dict(SPACE), value=value))

    assert suggest(study.ask()) == suggest(echo.ask())


# Why a trial is where it is


def explained(study: Study) -> list[Any]:
    return [trial.user_attrs.get("search") for trial in study.trials]


@pytest.mark.parametrize("line_search", ["surrogate", "parabolic"])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_each_trial_says_from_which_trial_it_is_how_far(line_search: str, direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    study = new_study(
        CoordinateDescentSampler(x0=X0, line_search=line_search, seed=0), direction=direction
    )
    study.optimize(lambda trial: sign * objective(trial), 25)
    assert explained(study)[0] is None or explained(study)[0] == {"line": "start"}
    axes = {name: Axis(name, distribution) for name, distribution in SPACE.items()}
    n_moved = 0
    for trial, search in list(zip(study.trials, explained(study)))[1:]:
        if "incumbent" not in search:
            assert search["line"] in ("random", "repeat")
            continue
        incumbent = study.trials[search["incumbent"]]
        assert incumbent.number < trial.number
        steps = {
            name: axis.encode(trial.params[name]) - axis.encode(incumbent.params[name])
            for name, axis in axes.items()
        }
        moved = {name: step for name, step in steps.items() if abs(step) > 1e-6}
        assert search["step"] == pytest.approx(moved, abs=2e-6)
        n_moved += 1
        if search["line"] in axes:
            assert set(moved) <= {search["line"]}
        gain = search.get("expected_improvement")
        assert gain is None or (line_search == "surrogate" and 0.0 <= gain < 50.0)
    assert n_moved > 12


def test_the_first_cycle_starts_at_the_best_so_far_and_needs_no_model() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))
    study.optimize(objective, 4)
    for trial, search in list(zip(study.trials, explained(study)))[1:]:
        before = study.trials[: trial.number]
        assert search["incumbent"] == min(before, key=lambda t: t.value or 0.0).number
        assert "expected_improvement" not in search
        assert list(search["step"]) == [search["line"]]


def test_the_expected_improvement_falls_as_the_search_converges() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))
    study.optimize(objective, 30)
    gains = [s["expected_improvement"] for s in explained(study) if s and len(s) == 4]
    assert len(gains) > 15
    assert np.median(gains[-5:]) < 0.1 * np.median(gains[:5])


@pytest.mark.parametrize("line_search", ["surrogate", "parabolic"])
def test_a_resumed_search_explains_itself_as_one_in_one_go(line_search: str) -> None:
    storage = InMemoryStorage()
    study = new_study(storage=storage)
    for _ in range(3):
        study = optuna.load_study(
            study_name=study.study_name,
            storage=storage,
            sampler=CoordinateDescentSampler(line_search=line_search, seed=0),
        )
        study.optimize(objective, 6)
    in_one_go = new_study(CoordinateDescentSampler(line_search=line_search, seed=0))
    in_one_go.optimize(objective, 18)

    assert explained(study) == explained(in_one_go)


def test_enqueued_trials_have_no_explanation() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))
    for balance in (0.5, 2.0):
        study.enqueue_trial({**X0, "balance": balance})
        study.optimize(objective, 6)

    assert explained(study)[0] is None and explained(study)[6] is None
    assert all("line" in search for n, search in enumerate(explained(study)) if n not in (0, 6))


# Values that are no ordinary numbers


def test_a_failed_point_is_evaluated_again() -> None:
    study = new_study()
    failing = {3, 7, 8}

    def sometimes(trial: Trial) -> float:
        value = objective(trial)
        return float("nan") if trial.number in failing else value

    study.optimize(sometimes, 20)
    completed = [t.params for t in study.get_trials(states=[TrialState.COMPLETE])]

    assert completed == params_after(17)


def test_a_point_that_always_fails_is_given_up_after_three_trials() -> None:
    study = new_study()

    def failing_below(trial: Trial) -> float:
        value = objective(trial)
        if trial.params["temperature"] < 0.09:
            raise RuntimeError
        return value

    study.optimize(failing_below, 40, catch=RuntimeError)
    failures = Counter(settings_of(study.get_trials(states=[TrialState.FAIL])))

    assert set(failures.values()) == {3}
    assert study.best_params["temperature"] < 0.11


def test_x0_is_left_after_three_failures() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))

    def broken(trial: Trial) -> float:
        suggest(trial)
        raise RuntimeError

    study.optimize(broken, 12, catch=RuntimeError)
    settings = [trial.params for trial in study.trials]

    assert settings[:3] == [X0] * 3
    assert X0 not in settings[3:]


def test_trials_that_fail_before_they_suggest_anything_count_for_nothing() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))

    def late(trial: Trial) -> float:
        if trial.number < 2 or trial.number == 5:
            raise RuntimeError
        return objective(trial)

    study.optimize(late, 12, catch=RuntimeError)
    completed = [t.params for t in study.get_trials(states=[TrialState.COMPLETE])]

    assert completed == params_after(9, CoordinateDescentSampler(x0=X0, seed=0))


@pytest.mark.parametrize("report", [True, False])
def test_pruned_trials_are_worse_than_every_other(report: bool) -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))

    def pruned_when_hot(trial: Trial) -> float:
        value = objective(trial)
        if trial.params["temperature"] > 0.2:
            if report:
                trial.report(-1e9, 0)
            raise optuna.TrialPruned
        return value

    study.optimize(pruned_when_hot, 25)

    assert study.get_trials(states=[TrialState.PRUNED])
    assert study.best_trial.state == TrialState.COMPLETE
    assert min(loss_of(t.params) for t in study.trials) < 0.01


def test_a_study_of_pruned_trials_goes_on_to_other_points() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))

    def pruned(trial: Trial) -> float:
        suggest(trial)
        raise optuna.TrialPruned

    study.optimize(pruned, 30)

    assert study.trials[0].params == X0
    assert len(set(settings_of(study.trials))) == 30


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_infinitely_bad_values_are_walls(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    study = new_study(direction=direction)

    def walled(trial: Trial) -> float:
        value = objective(trial)
        return sign * (value if trial.params["balance"] < 2.5 else math.inf)

    study.optimize(walled, 40)

    assert sign * study.best_value < 0.2
    assert sum(map(math.isinf, (t.value for t in study.trials))) < 15  # type: ignore[arg-type]


def test_an_infinitely_good_value_is_kept() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0), direction="maximize")
    study.optimize(lambda trial: math.inf if suggest(trial)["balance"] > 1.0 else 0.0, 20)

    assert sum(t.value == math.inf for t in study.trials[-10:]) >= 6


@pytest.mark.parametrize("form", ["optuna 5", "optuna 4"])
@pytest.mark.parametrize("failing", [False, True])
def test_infeasible_points_are_walls_and_not_evaluated_again(form: str, failing: bool) -> None:
    if form == "optuna 5" and not hasattr(Trial, "set_constraint"):
        pytest.skip("this version of Optuna has no `Trial.set_constraint`")
    study = new_study(CoordinateDescentSampler(x0=X0))

    def out_of_memory(trial: Trial) -> float:
        params = suggest(trial)
        excess = math.log2(params["batch_size"] / 64)
        if form == "optuna 5":
            trial.set_constraint("memory", excess)
        else:
            study._storage.set_trial_system_attr(trial._trial_id, "constraints", [excess])
        if failing and excess > 0.0:
            raise MemoryError
        # The larger, the better, if only it fitted.
        return loss_of(params) - 10.0 * float(params["batch_size"])

    study.optimize(out_of_memory, 40, catch=MemoryError)
    feasible = [t for t in study.trials if t.params["batch_size"] <= 64]

    assert len(set(settings_of(study.trials))) == 40
    assert study.trials[0].params["batch_size"] == 128
    assert len(feasible) > 20
    assert min(loss_of(t.params) for t in feasible) < 0.05


# Trials that others have set


@pytest.mark.parametrize("n_before", [0, 3, 60])
def test_an_enqueued_better_point_is_searched_around(n_before: int) -> None:
    hidden = {"balance": 0.12, "temperature": 0.9, "batch_size": 32}

    def two_valleys(trial: Trial) -> float:
        params = suggest(trial)
        distance = math.log(params["balance"] / 0.15) ** 2
        distance += math.log(params["temperature"] / 0.7) ** 2
        deep = 100.0 * math.exp(-10.0 * distance) if params["batch_size"] == 32 else 0.0
        return loss_of(params) - deep

    study = new_study(CoordinateDescentSampler(seed=0))
    study.optimize(two_valleys, n_before)
    study.enqueue_trial(hidden)
    study.optimize(two_valleys, 31)

    enqueued = study.trials[n_before]
    assert enqueued.params == hidden
    assert enqueued.value is not None and enqueued.value < -10.0
    assert study.best_value < -80.0


def test_an_enqueued_point_is_not_given_to_anybody_else() -> None:
    following = params_after(2, CoordinateDescentSampler(x0=X0))[1]
    study = new_study(CoordinateDescentSampler(x0=X0))
    study.optimize(objective, 1)
    study.enqueue_trial({**X0, "balance": 9.0})
    study.enqueue_trial(following)
    first, second, third = study.ask(), study.ask(), study.ask()
    assert suggest(first) == {**X0, "balance": 9.0}

    assert suggest(third) != following
    assert suggest(second) == following


def test_an_enqueued_parameter_is_kept_and_the_others_are_searched() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    study.optimize(objective, 2)
    study.enqueue_trial({"temperature": 0.77})
    study.optimize(objective, 1)

    assert study.trials[2].params["temperature"] == 0.77
    assert study.trials[2].params["balance"] != study.trials[1].params["balance"]


@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_an_enqueued_point_outside_the_space_does_no_harm() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))
    study.optimize(objective, 1)
    study.enqueue_trial({**X0, "balance": 99.0})
    study.optimize(objective, 10)
    others = [trial.params for trial in study.trials if trial.number != 1]

    assert others == params_after(10, CoordinateDescentSampler(x0=X0, seed=0))


def test_the_trials_of_another_sampler_are_taken_up() -> None:
    study = new_study(RandomSampler(seed=0))
    study.optimize(objective, 30)
    before = study.best_value
    study.sampler = CoordinateDescentSampler(x0=X0, seed=0)
    study.optimize(objective, 5)

    assert study.best_value < 0.5 * before


# Several workers


@pytest.mark.parametrize("n_finished", [0, 1, 20])
def test_trials_asked_for_together_are_at_different_points(
    storage: BaseStorage, n_finished: int
) -> None:
    study = new_study(storage=storage)
    study.optimize(objective, n_finished)
    trials = [study.ask() for _ in range(8)]
    settings = [tuple(suggest(trial).values()) for trial in trials]

    assert len(set(settings)) == 8


@pytest.mark.parametrize("n_suggested", [0, 1, 2])
def test_the_start_is_not_given_to_others_while_the_first_trial_is_slow(n_suggested: int) -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    slow, quick = study.ask(), study.ask()
    for name in list(SPACE)[:n_suggested]:
        slow._suggest(name, SPACE[name])
    study.tell(quick, loss_of(suggest(quick)))

    assert suggest(study.ask()) != X0
    assert suggest(slow) == X0


def test_the_point_of_a_trial_that_has_seen_a_part_of_the_space_is_not_given_to_others() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    first, slow = study.ask(), study.ask()
    first.suggest_float("balance", 0.1, 10.0, log=True)
    balance = slow.suggest_float("balance", 0.1, 10.0, log=True)
    study.tell(first, loss_of(suggest(first)))

    assert suggest(study.ask()) != {**X0, "balance": balance}


def test_trials_may_be_told_in_any_order() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    for _ in range(8):
        trials = [study.ask() for _ in range(4)]
        settings = [suggest(trial) for trial in trials]
        for trial, params in reversed(list(zip(trials, settings, strict=True))):
            study.tell(trial.number, loss_of(params))

    assert len(set(settings_of(study.trials))) == 32
    assert study.best_value < 0.05


def test_trials_may_be_asked_for_with_their_distributions() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0, seed=0))
    for _ in range(20):
        trial = study.ask(SPACE)
        study.tell(trial, loss_of(trial.params))

    assert [t.params for t in study.trials] == params_after(
        20, CoordinateDescentSampler(x0=X0, seed=0)
    )


def test_threads_share_a_sampler() -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    study.optimize(objective, 48, n_jobs=4)

    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert len(set(settings_of(study.trials))) == 48
    assert study.best_value < 0.05


@pytest.mark.parametrize("n_finished", [0, 1, 9])
def test_a_trial_that_died_is_not_waited_for(n_finished: int) -> None:
    study = new_study(CoordinateDescentSampler(x0=X0))
    study.optimize(objective, n_finished)
    dead = suggest(study.ask())
    study.optimize(objective, 40)
    finished = [trial.params for trial in study.get_trials(states=[TrialState.COMPLETE])]

    assert dead not in finished
    assert study.best_value < 0.05


class RivalStorage(InMemoryStorage):
    """In which another trial claims the first point claimed, at the same time."""

    def __init__(self, fate: str) -> None:
        super().__init__()
        self.rival: int | None = None
        self._fate = fate
        self._n_reads = 0

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        if self.rival is None or self._n_reads:
            return
        super().set_trial_system_attr(self.rival, key, value)
        self._n_reads = 1
        if self._fate == "starts":
            self.set_trial_param(self.rival, "balance", value["balance"], BALANCE)
        if self._fate == "finishes":
            self.set_trial_state_values(self.rival, TrialState.COMPLETE, [0.0])

    def get_all_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        if self.rival is not None and self._n_reads:
            self._n_reads += 1
            if self._fate == "leaves" and self._n_reads == 5:
                elsewhere = {"balance": 9.9, "temperature": 0.9, "batch_size": 0.0}
                super().set_trial_system_attr(self.rival, "cbal:claim", elsewhere)
        return super().get_all_trials(*arguments, **options)


@pytest.mark.parametrize(
    "own, rival, fate, keeps",
    [
        (1, 2, "stays", False),
        (1, 2, "starts", False),
        (1, 2, "finishes", False),
        (1, 2, "leaves", True),
        (2, 1, "stays", False),
        (2, 1, "starts", False),
        (2, 1, "finishes", False),
        (2, 1, "leaves", False),
    ],
)
def test_a_point_claimed_by_two_is_kept_by_the_earlier_if_the_later_leaves(
    own: int, rival: int, fate: str, keeps: bool
) -> None:
    storage = RivalStorage(fate)
    study = new_study(CoordinateDescentSampler(x0=X0), storage=storage)
    study.optimize(objective, 1)
    trials = {trial.number: trial for trial in (study.ask(), study.ask())}
    storage.rival = trials[rival]._trial_id
    point = params_after(2, CoordinateDescentSampler(x0=X0))[1]

    assert (suggest(trials[own]) == point) is keeps


class LockstepStorage(InMemoryStorage):
    """In which all workers choose, then all write their first claims, then all read again."""

    def __init__(self, n_workers: int) -> None:
        super().__init__()
        self._barrier = threading.Barrier(n_workers, timeout=5.0)
        self.claims: dict[int, list[Any]] = {}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        is_first = trial_id not in self.claims
        self.claims.setdefault(trial_id, []).append(value)
        if is_first:
            self._barrier.wait()
        super().set_trial_system_attr(trial_id, key, value)
        if is_first:
            self._barrier.wait()


@pytest.mark.parametrize("n_workers", [2, 5])
def test_workers_in_step_part(n_workers: int) -> None:
    storage = LockstepStorage(n_workers)
    study = new_study(CoordinateDescentSampler(x0=X0), storage=storage)
    study.optimize(objective, 1)
    trials = [study.ask() for _ in range(n_workers)]
    with ThreadPoolExecutor(n_workers) as pool:
        settings = list(pool.map(suggest, trials))

    first_claims = [claims[0] for claims in storage.claims.values()]
    assert all(claim == first_claims[0] for claim in first_claims)
    assert len({tuple(s.values()) for s in settings}) == n_workers


# Retried trials


def stale(study: Study, trial: Trial, n_meanwhile: int = 0) -> None:
    """What a heartbeat does with a trial whose worker died; others are faster by some trials."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    study.optimize(objective, n_meanwhile)
    (retry,) = retry_callback().values()
    retry(study, study.trials[trial.number])


def test_a_retried_trial_keeps_its_point(storage: BaseStorage) -> None:
    study = new_study(storage=storage)
    study.optimize(objective, 5)
    dead = study.ask()
    point = suggest(dead)
    stale(study, dead)
    retried, other = study.ask(), study.ask()

    assert suggest(other) != point
    assert suggest(retried) == point


@pytest.mark.parametrize("n_meanwhile", [0, 3])
def test_a_retried_trial_that_died_half_way_keeps_its_point(
    storage: BaseStorage, n_meanwhile: int
) -> None:
    study = new_study(storage=storage)
    study.optimize(objective, 5)
    dead = study.ask()
    dead.suggest_float("balance", 0.1, 10.0, log=True)
    claimed = params_after(6)[5]
    stale(study, dead, n_meanwhile)
    retried = study.ask()

    assert "temperature" not in retried.params
    assert suggest(retried) == claimed


def test_a_value_found_after_three_kills_counts() -> None:
    study = new_study()
    study.optimize(objective, 5)
    trial = study.ask()
    for _ in range(3):
        suggest(trial)
        stale(study, trial)
        trial = study.ask()
    study.tell(trial, loss_of(suggest(trial)))
    study.optimize(objective, 10)
    completed = [t.params for t in study.get_trials(states=[TrialState.COMPLETE])]

    assert completed == params_after(16)


@pytest.mark.parametrize("finished", [False, True])
def test_a_retried_trial_leaves_a_point_that_it_claimed_at_the_same_time_as_another(
    finished: bool,
) -> None:
    study = new_study()
    study.optimize(objective, 5)
    other, dead = study.ask(), study.ask()
    point = suggest(other)
    claim = study.trials[other.number].system_attrs["cbal:claim"]
    study._storage.set_trial_system_attr(dead._trial_id, "cbal:claim", claim)
    if finished:
        study.tell(other, loss_of(point))
    stale(study, dead)

    assert suggest(study.ask()) != point


def test_a_trial_waiting_to_be_retried_holds_its_point() -> None:
    study = new_study()
    study.optimize(objective, 5)
    dead, other = study.ask(), study.ask()
    point = suggest(dead)
    stale(study, dead)
    assert study.trials[-1].state == TrialState.WAITING

    assert suggest(other) != point


@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_claim_from_a_space_that_has_changed_since_does_no_harm() -> None:
    study = new_study()
    study.optimize(objective, 3)
    dead = study.ask()
    dead.suggest_float("balance", 0.1, 10.0, log=True)
    stale(study, dead)
    study.enqueue_trial(X0)
    for trial in (study.ask(), study.ask()):
        trial.suggest_float("balance", 0.1, 10.0, log=True)
        trial.suggest_float("temperature", 0.5, 0.6, log=True)
        study.tell(trial, 0.0)
    study.optimize(lambda trial: trial.suggest_float("balance", 0.1, 10.0, log=True), 10)

    assert {t.state for t in study.trials[4:]} == {TrialState.COMPLETE}


# Spaces that change


def conditional(trial: Trial) -> float:
    """0 at balance 3 and margin 0.3; with the other loss, at least 0.1."""
    loss = trial.suggest_categorical("loss", ["infonce", "margin"])
    value = math.log(trial.suggest_float("balance", 0.1, 10.0, log=True) / 3.0) ** 2
    if loss == "infonce":
        return value + 0.1 + math.log(trial.suggest_float("temperature", 0.01, 1.0) / 0.05) ** 2
    return value + 4.0 * (trial.suggest_float("margin", 0.0, 1.0) - 0.3) ** 2


@pytest.mark.parametrize(("line_search", "n_trials"), [("surrogate", 25), ("parabolic", 60)])
def test_a_conditional_parameter_is_searched_where_it_has_an_effect(
    line_search: str, n_trials: int, caplog: pytest.LogCaptureFixture
) -> None:
    study = new_study(CoordinateDescentSampler(seed=0, line_search=line_search))
    with caplog.at_level(logging.WARNING, "cbal_optuna"):
        study.optimize(conditional, n_trials)

    assert study.best_params["loss"] == "margin"
    assert study.best_value < 0.02
    assert "independently" not in caplog.text
    # No setting was evaluated twice for the sake of a parameter that it does not have.
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == n_trials
    for trial in study.trials:
        assert set(trial.user_attrs.get(EXPLANATION, {}).get("step", {})) <= set(trial.params)


def test_a_conditional_parameter_starts_where_it_is_first_asked_for() -> None:
    study = new_study(CoordinateDescentSampler(x0={"margin": 0.9}, seed=0))
    study.optimize(conditional, 8)
    first = next(t for t in study.trials if "margin" in t.params)

    assert study.trials[0].params["loss"] == "infonce"
    assert first.params["margin"] == 0.9


def test_all_settings_of_a_conditional_space_are_tried_once() -> None:
    def f(trial: Trial) -> float:
        if trial.suggest_categorical("loss", ["infonce", "margin"]) == "infonce":
            return trial.suggest_int("views", 1, 3)
        return trial.suggest_int("layers", 1, 4) + trial.suggest_int("width", 1, 2)

    study = new_study()
    study.optimize(f, 3 + 4 * 2)

    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 11
    study.optimize(f, 1)
    assert study.trials[-1].params == study.best_params


def test_without_the_parameter_that_decides_what_depends_on_it_is_sampled_independently() -> None:
    study = new_study(CoordinateDescentSampler(seed=0, warn_independent_sampling=False))
    study.optimize(conditional, 12)
    study.sampler = PartialFixedSampler({"loss": "margin"}, study.sampler)
    study.optimize(conditional, 8)
    drawn = [t.params["margin"] for t in study.trials[12:]]

    assert len(set(drawn)) == 8
    assert all(0.0 <= value <= 1.0 for value in drawn)


@pytest.mark.parametrize("shift", [0.25, 2.0])
def test_a_range_may_change_with_every_trial(shift: float) -> None:
    def moving(trial: Trial) -> float:
        low = shift * trial.number
        x = trial.suggest_float("x", low, low + 1.0) - low
        assert 0.0 <= x <= 1.0
        return x + 2 * trial.suggest_int("n", 0, 5)

    study = new_study(CoordinateDescentSampler(seed=0, warn_independent_sampling=False))
    study.optimize(moving, 20)

    assert study.best_params["n"] == 0


def test_a_parameter_may_be_added_and_dropped() -> None:
    study = new_study(
        CoordinateDescentSampler(line_search="parabolic", seed=0, warn_independent_sampling=False)
    )
    study.optimize(objective, 6)
    study.optimize(lambda trial: objective(trial) + trial.suggest_float("margin", 0.0, 1.0), 6)
    study.optimize(lambda trial: trial.suggest_float("balance", 0.1, 10.0, log=True), 30)

    assert study.best_params["balance"] < 0.15


def test_a_single_value_is_no_parameter_to_search() -> None:
    def fixed(trial: Trial) -> float:
        trial.suggest_categorical("loss", ["infonce"])
        trial.suggest_int("epochs", 5, 5)
        return objective(trial)

    study = new_study()
    study.optimize(fixed, 15)

    assert [{n: t.params[n] for n in SPACE} for t in study.trials] == params_after(15)


def test_a_study_without_parameters_runs() -> None:
    study = new_study()
    study.optimize(lambda trial: 1.0, 3)

    assert study.best_value == 1.0


@pytest.mark.parametrize("warn", [True, False])
def test_independent_sampling_is_warned_of_once_results_are_there(
    warn: bool, caplog: pytest.LogCaptureFixture
) -> None:
    study = new_study(CoordinateDescentSampler(seed=0, warn_independent_sampling=warn))
    with caplog.at_level(logging.WARNING, "cbal_optuna"):
        study.optimize(objective, 5)
        study.optimize(lambda trial: objective(trial) + trial.suggest_float("new", 0.0, 1.0), 2)
    warnings = [r.getMessage() for r in caplog.records if r.name.startswith("cbal_optuna")]

    assert [re.findall("'new' of trial .", w) for w in warnings] == (
        [["'new' of trial 6"]] if warn else []
    )


class CallRecorder(RandomSampler):
    def __init__(self) -> None:
        super().__init__(seed=0)
        self.calls: Counter[str] = Counter()

    def reseed_rng(self) -> None:
        self.calls["reseed_rng"] += 1

    def before_trial(self, *arguments: Any) -> None:
        self.calls["before_trial"] += 1

    def after_trial(self, *arguments: Any) -> None:
        self.calls["after_trial"] += 1

    def sample_independent(self, *arguments: Any) -> Any:
        self.calls["sample_independent"] += 1
        return super().sample_independent(*arguments)


def test_the_independent_sampler_sees_every_trial() -> None:
    recorder = CallRecorder()
    sampler = CoordinateDescentSampler(
        independent_sampler=recorder, warn_independent_sampling=False
    )
    study = new_study(sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0 + trial.number), 4)
    sampler.reseed_rng()

    # The first trial is the start, and the second a step from there: the range changes later.
    assert recorder.calls == {
        "before_trial": 4,
        "sample_independent": 2,
        "after_trial": 4,
        "reseed_rng": 1,
    }


# Together with the rest of Optuna


def test_a_parameter_can_be_fixed() -> None:
    study = new_study()
    study.optimize(objective, 4)
    study.sampler = PartialFixedSampler({"temperature": 0.2}, CoordinateDescentSampler(seed=0))
    study.optimize(objective, 16)

    assert {trial.params["temperature"] for trial in study.trials[4:]} == {0.2}
    assert len(set(settings_of(study.trials))) == 20


def test_hyperband_prunes_and_the_search_goes_on() -> None:
    def in_steps(trial: Trial) -> float:
        value = objective(trial)
        for step in range(9):
            trial.report(value + 1.0 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    pruner = HyperbandPruner(min_resource=1, max_resource=9)
    study = new_study(CoordinateDescentSampler(x0=X0), pruner=pruner)
    study.optimize(in_steps, 60)

    assert len(set(settings_of(study.trials))) == 60
    assert study.get_trials(states=[TrialState.PRUNED])
    assert study.best_value < study.trials[0].value / 4.0  # type: ignore[operator]


@pytest.mark.parametrize("n_before", [0, 2])
def test_several_objectives_are_refused(n_before: int) -> None:
    study = new_study(RandomSampler(seed=0), directions=["minimize", "maximize"])
    study.optimize(lambda trial: (objective(trial), 0.0), n_before)
    study.sampler = CoordinateDescentSampler()

    with pytest.raises(ValueError, match="multi-objective"):
        study.optimize(lambda trial: (objective(trial), 0.0), 1)


def test_the_study_may_stop_itself() -> None:
    study = new_study()
    study.optimize(objective, 20, callbacks=[lambda s, t: s.stop() if t.number == 6 else None])

    assert len(study.trials) == 7
