"""What is said of a study: the recommended setting, what to expect, and whether to search on."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import math
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import RandomSampler
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna import summarize
from cbal_optuna.search import Axis
from cbal_optuna.summary import Expectation
from cbal_optuna.summary import NearOptimal
from cbal_optuna.summary import recommended_trial


Params = Mapping[str, Any]

UNIT = FloatDistribution(0.0, 1.0)
SQUARE: dict[str, BaseDistribution] = {"x": UNIT, "y": UNIT}
BATCH_SIZE = CategoricalDistribution([32, 64, 128, 256, 512])
LOSS = CategoricalDistribution(["infonce", "margin", "triplet"])


def parabola(params: Params, x: float = 0.3, y: float = 0.6) -> float:
    """Within 1 % of its best value 1 for x from 0.23 to 0.37, and for y from 0.5 to 0.7."""
    return 1.0 - 2.0 * (params["x"] - x) ** 2 - (params["y"] - y) ** 2


def scattered(n: int, distributions: Mapping[str, BaseDistribution] = SQUARE) -> list[Params]:
    rng = np.random.default_rng(0)
    axes = [Axis(name, d) for name, d in distributions.items()]
    return [{a.name: a.decode(a.at_random(rng.random())) for a in axes} for _ in range(n)]


def as_a_search_has_them(n: int) -> list[Params]:
    """Half of them anywhere, half near the optimum."""
    close = [{"x": 0.2 + 0.2 * p["x"], "y": 0.5 + 0.2 * p["y"]} for p in scattered(n // 2)]
    return [*scattered(n - len(close)), *close]


def add(
    study: Study,
    value: float | None,
    params: Params,
    distributions: Mapping[str, BaseDistribution] = SQUARE,
    state: TrialState = TrialState.COMPLETE,
    feasible: bool = True,
) -> None:
    study.add_trial(
        create_trial(
            value=value,
            params=dict(params),
            distributions={name: distributions[name] for name in params},
            state=state,
            # To Optuna 4 a trial without is infeasible as soon as another one is.
            system_attrs={"constraints": [-1.0 if feasible else 1.0]},
        )
    )


def study_of(
    points: Iterable[Params],
    f: Callable[[Params], float] = parabola,
    distributions: Mapping[str, BaseDistribution] = SQUARE,
    noise: float = 0.0,
    seed: int = 0,
    direction: str = "maximize",
) -> Study:
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction=direction)
    for params in points:
        add(study, f(params) + noise * rng.standard_normal(), params, distributions)
    return study


def of_values(*values: float, direction: str = "maximize") -> Study:
    rest = iter(values)
    return study_of(scattered(len(values)), lambda _: next(rest), direction=direction)


def near(study: Study) -> dict[str, NearOptimal]:
    return {n.name: n for n in summarize(study).near_optimal}


# The recommended setting and what to expect of it


def test_usual_is_the_first_trial_and_gain_is_against_what_is_expected_of_it() -> None:
    points = [{"x": 0.9, "y": 0.6}, *scattered(20)]
    summary = summarize(study_of(points))
    assert summary.usual is not None and summary.usual.number == 0
    assert summary.expected is not None and summary.usual_expected is not None
    assert summary.usual_expected.value == pytest.approx(0.28, abs=0.01)
    assert summary.gain == pytest.approx(summary.expected.value / 0.28 - 1.0, rel=0.05)


def test_without_noise_the_best_trial_is_recommended() -> None:
    summary = summarize(study_of(scattered(20)))
    assert summary.recommended.number == summary.best.number
    assert summary.expected is not None
    assert summary.expected.value == pytest.approx(summary.best.value, abs=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_recommended_setting_is_not_the_luckiest(seed: int) -> None:
    study = study_of(scattered(40), noise=0.02, seed=seed)
    bad = {"x": 0.95, "y": 0.1}
    for value in (0.0, 1.3, -0.1, 0.05):
        add(study, value, bad)
    summary = summarize(study)
    assert summary.best.value == 1.3
    assert parabola(summary.recommended.params) > 0.95


def test_the_expected_value_and_its_interval_are_near_the_truth() -> None:
    errors, n_inside = [], 0
    for seed in range(12):
        summary = summarize(study_of(as_a_search_has_them(50), noise=0.05, seed=seed))
        truth, expected = parabola(summary.recommended.params), summary.expected
        assert expected is not None and expected.low <= expected.value <= expected.high
        assert 0.02 < expected.high - expected.low < 0.15
        errors.append(abs(expected.value - truth))
        n_inside += expected.low <= truth <= expected.high
    assert np.median(errors) < 0.025
    assert n_inside >= 8


@pytest.mark.parametrize("luck", [-0.15, 0.15])
def test_what_is_expected_of_the_usual_setting_has_its_luck_averaged_out(luck: float) -> None:
    usual = {"x": 0.5, "y": 0.5}
    study = study_of([usual], lambda params: parabola(params) + luck)
    rest = study_of(scattered(50), noise=0.05)
    study.add_trials(rest.trials)
    summary = summarize(study)
    assert summary.usual_expected is not None
    assert abs(summary.usual_expected.value - parabola(usual)) < 0.5 * abs(luck)


@pytest.mark.parametrize("noise", [0.01, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_the_noise_is_known_within_a_factor_of_two(noise: float, seed: int) -> None:
    summary = summarize(study_of(as_a_search_has_them(60), noise=noise, seed=seed))
    assert summary.noise is not None
    assert noise / 2.0 < summary.noise < 2.0 * noise


def test_without_noise_there_is_next_to_none() -> None:
    summary = summarize(study_of(scattered(30)))
    assert summary.noise is not None and 0.0 < summary.noise < 0.005


@pytest.mark.parametrize(("n_trials", "tentative"), [(1, True), (11, True), (12, False)])
def test_few_trials_are_tentative(n_trials: int, tentative: bool) -> None:
    assert summarize(study_of(scattered(n_trials))).tentative is tentative


def test_infeasible_trials_are_never_recommended() -> None:
    study = study_of(scattered(5))
    add(study, 5.0, {"x": 0.3, "y": 0.6}, feasible=False)
    summary = summarize(study)
    assert summary.best.number < 5 and summary.recommended.number < 5
    assert summary.expected is not None and summary.expected.value < 1.1


@pytest.mark.parametrize("is_named", [False, True])
def test_the_usual_setting_is_known_by_its_parameters_if_trial_0_failed(is_named: bool) -> None:
    usual = {"x": 0.5, "y": 0.5}
    study = study_of([])
    if is_named:
        study.set_user_attr("usual", usual)
    add(study, None, usual, state=TrialState.FAIL)
    add(study, 0.2, {"x": 0.1, "y": 0.9})
    assert summarize(study).usual is None
    add(study, 0.5, usual)
    found = summarize(study).usual
    assert found is not None and found.number == 2


@pytest.mark.parametrize(("value", "direction"), [(-math.inf, "maximize"), (math.inf, "minimize")])
def test_infinitely_bad_trials_are_never_recommended(value: float, direction: str) -> None:
    summary = summarize(of_values(value, 0.2, 0.2, direction=direction))
    assert summary.recommended.number == 1
    assert summary.usual is None and summary.usual_expected is None and summary.gain is None


def test_a_setting_that_failed_once_is_not_recommended() -> None:
    study = study_of(scattered(5), lambda _: 0.5)
    spoiled = {"x": 0.5, "y": 0.5}
    add(study, 0.5, spoiled)
    add(study, 0.0, spoiled, feasible=False)
    study.set_user_attr("usual", spoiled)
    assert summarize(study).recommended.params != spoiled


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_without_a_finite_value_nothing_is_expected(value: float) -> None:
    summary = summarize(of_values(value))
    assert summary.expected is None and summary.near_optimal == () and not summary.converged
    assert summary.reason == "No setting has a finite value."


def test_trials_without_a_value_do_no_harm() -> None:
    plain = summarize(study_of(scattered(15)))
    study = study_of(scattered(15))
    for state in (TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL, TrialState.PRUNED):
        add(study, None, {}, state=state)
    for state in (TrialState.RUNNING, TrialState.FAIL):
        add(study, None, {"x": 0.11, "y": 0.12}, state=state)
    summary = summarize(study)
    assert (summary.expected, summary.near_optimal) == (plain.expected, plain.near_optimal)


def test_pruned_trials_count_as_worst_and_are_not_recommended() -> None:
    study = study_of(scattered(12))
    for x in (0.8, 0.9, 1.0):
        add(study, None, {"x": x, "y": 0.6}, state=TrialState.PRUNED)
    summary = summarize(study)
    assert summary.recommended.state == TrialState.COMPLETE
    assert near(study)["x"].bounded_above


def test_a_study_without_results_has_no_summary() -> None:
    with pytest.raises(ValueError, match="No trials are completed"):
        summarize(optuna.create_study())


def test_a_study_without_a_feasible_trial_has_no_summary() -> None:
    study = optuna.create_study()
    for params in scattered(3):
        add(study, 1.0, params, feasible=False)
    with pytest.raises(ValueError, match="No feasible trials"):
        summarize(study)
    with pytest.raises(ValueError, match="No feasible trials"):
        recommended_trial(study)


def test_the_recommended_trial_is_that_of_the_summary() -> None:
    study = study_of(scattered(15), noise=0.1)
    assert recommended_trial(study).number == summarize(study).recommended.number


# How precisely each hyper-parameter must be set


def test_the_near_optimal_interval_is_where_one_per_cent_is_lost() -> None:
    found = near(study_of([*scattered(30), {"x": 0.3, "y": 0.6}]))
    assert found["x"].values == pytest.approx((0.23, 0.37), abs=0.02)
    assert found["y"].values == pytest.approx((0.5, 0.7), abs=0.02)
    assert all(n.bounded_below and n.bounded_above for n in found.values())
    assert all(type(value) is float for n in found.values() for value in n.values)


def test_a_minimised_objective_may_cost_one_per_cent_more() -> None:
    study = study_of(
        [*scattered(30), {"x": 0.3, "y": 0.6}], lambda p: 2.0 - parabola(p), direction="minimize"
    )
    assert near(study)["x"].values == pytest.approx((0.23, 0.37), abs=0.02)


@pytest.mark.parametrize(("optimum", "bounded"), [(0.0, (False, True)), (1.0, (True, False))])
def test_the_interval_reaches_the_end_of_the_range_where_the_optimum_is(
    optimum: float, bounded: tuple[bool, bool]
) -> None:
    points = [*scattered(30), {"x": optimum, "y": 0.6}]
    x = near(study_of(points, lambda params: parabola(params, x=optimum)))["x"]
    assert (x.bounded_below, x.bounded_above) == bounded
    assert optimum in x.values
    assert x.values[1] - x.values[0] == pytest.approx(0.07, abs=0.03)


def test_a_hyper_parameter_that_does_not_matter_may_have_any_value() -> None:
    y = near(study_of(scattered(30), lambda params: parabola({**params, "y": 0.6})))["y"]
    assert y == NearOptimal("y", (0.0, 1.0), False, False)


def test_a_log_scale_is_that_of_the_values() -> None:
    balance = {"balance": FloatDistribution(0.01, 100.0, log=True)}
    points = [{"balance": 10.0 ** (k / 5.0)} for k in range(-10, 11)]
    study = study_of(points, lambda p: 1.0 - math.log10(p["balance"]) ** 2, balance)
    low, high = near(study)["balance"].values
    assert math.log10(low) == pytest.approx(-0.1, abs=0.03)
    assert math.log10(high) == pytest.approx(0.1, abs=0.03)


def test_ordered_batch_sizes_are_listed_from_the_lowest_to_the_highest() -> None:
    space = {"x": UNIT, "batch_size": BATCH_SIZE}
    loss = {32: 0.3, 64: 0.006, 128: 0.0, 256: 0.004, 512: 0.2}

    def f(params: Params) -> float:
        return 1.0 - (params["x"] - 0.5) ** 2 - loss[params["batch_size"]]

    points = [{"x": x, "batch_size": b} for x in (0.3, 0.5, 0.7) for b in BATCH_SIZE.choices]
    found = near(study_of(points, f, space))["batch_size"]
    assert found == NearOptimal("batch_size", (64, 128, 256), True, True)


def test_the_largest_batch_size_is_the_end_of_its_range() -> None:
    points = [{"batch_size": b} for b in BATCH_SIZE.choices]
    study = study_of(points, lambda p: p["batch_size"] / 512, {"batch_size": BATCH_SIZE})
    assert near(study)["batch_size"] == NearOptimal("batch_size", (512,), True, False)


def test_categories_are_listed_each_by_itself() -> None:
    space = {"x": UNIT, "loss": LOSS}
    lost = {"infonce": 0.005, "margin": 0.3, "triplet": 0.0}

    def f(params: Params) -> float:
        return 1.0 - (params["x"] - 0.5) ** 2 - lost[params["loss"]]

    points = [{"x": x, "loss": c} for x in (0.3, 0.45, 0.5, 0.7) for c in LOSS.choices]
    study = study_of(points, f, space)
    assert summarize(study).recommended.params == {"x": 0.5, "loss": "triplet"}
    assert near(study)["loss"] == NearOptimal("loss", ("infonce", "triplet"), True, True)


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(1e-300, 1e300, log=True),
        FloatDistribution(14369.743347957925, 14369.74334795902),
        FloatDistribution(0.0, 1.0, step=1e-7),
        FloatDistribution(0.0, 1.0, step=0.25),
        IntDistribution(0, 2**53),
        IntDistribution(1, 300, log=True),
        # Of which positions cannot tell the values apart.
        IntDistribution(2**52, 2**52 + 100, log=True),
        CategoricalDistribution([str(i) for i in range(300)]),
        CategoricalDistribution([None, True, 1.5, float("nan"), "a"]),
        CategoricalDistribution([1, math.inf]),
    ],
    ids=str,
)
def test_ranges_of_any_kind_have_near_optimal_values(distribution: BaseDistribution) -> None:
    space = {"z": distribution}
    study = study_of(scattered(9, space), lambda p: len(str(p["z"])), space, noise=0.1)
    values = near(study)["z"].values
    assert values
    assert all(distribution._contains(distribution.to_internal_repr(v)) for v in values)


# Studies of every kind


def test_a_minimised_study_is_a_maximised_one_in_the_mirror() -> None:
    points = scattered(20)
    up = summarize(study_of(points, noise=0.1))
    down = summarize(study_of(points, lambda p: -parabola(p), noise=-0.1, direction="minimize"))
    assert up.recommended.number == down.recommended.number
    assert (up.near_optimal, up.noise) == (down.near_optimal, down.noise)
    assert (up.converged, up.reason, up.gain) == (down.converged, down.reason, down.gain)
    for a, b in (up.expected, down.expected), (up.usual_expected, down.usual_expected):
        assert a is not None and b is not None
        assert a == Expectation(-b.value, -b.high, -b.low)


def test_summarizing_twice_is_the_same() -> None:
    study = study_of(scattered(20), noise=0.1)
    a, b = summarize(study), summarize(study)
    assert (a.expected, a.usual_expected, a.noise) == (b.expected, b.usual_expected, b.noise)
    assert (a.near_optimal, a.reason) == (b.near_optimal, b.reason)


@pytest.mark.parametrize(
    "sampler", [RandomSampler(seed=0), TPESampler(seed=0)], ids=["random", "tpe"]
)
def test_any_sampler_may_have_searched(sampler: BaseSampler) -> None:
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for _ in range(25):
        trial = study.ask(SQUARE)
        study.tell(trial, parabola(trial.params))
    assert summarize(study).recommended.value == pytest.approx(study.best_value, abs=0.005)
    low, high = near(study)["x"].values
    assert low < 0.3 < high


@pytest.mark.parametrize(("best", "judged"), [("margin", "loss margin x"), ("infonce", "loss x")])
def test_parameters_that_the_recommended_setting_has_are_judged(best: str, judged: str) -> None:
    space = {"loss": LOSS, "x": UNIT, "margin": UNIT}
    points = [
        {"loss": "margin", "x": p["x"], "margin": p["y"]}
        if i % 2
        else {"loss": "infonce", "x": p["x"]}
        for i, p in enumerate(scattered(30))
    ]

    def f(params: Params) -> float:
        margin = params.get("margin", 0.3)
        return 1.0 - (params["x"] - 0.5) ** 2 - (margin - 0.3) ** 2 + (params["loss"] == best)

    study = study_of(points, f, space)
    summary = summarize(study)
    assert [n.name for n in summary.near_optimal] == judged.split()
    assert near(study)["loss"].values == (best,)
    assert summary.recommended.params["loss"] == best
    if best == "margin":
        assert summary.recommended.params["margin"] == pytest.approx(0.3, abs=0.15)


def test_parameters_that_only_some_trials_have_for_no_known_reason_are_not_judged() -> None:
    space = {"loss": LOSS, "x": UNIT, "margin": UNIT}
    points = [
        {"loss": "infonce", "x": p["x"], **({"margin": p["y"]} if i % 2 else {})}
        for i, p in enumerate(scattered(20))
    ]
    study = study_of(points, lambda params: 1.0 - (params["x"] - 0.5) ** 2, space)
    assert list(near(study)) == ["loss", "x"]


def test_a_range_that_changed_is_not_judged() -> None:
    study = study_of(scattered(5))
    add(study, 0.0, {"x": 1.7, "y": 0.6}, {"x": FloatDistribution(0.0, 2.0), "y": UNIT})
    assert list(near(study)) == ["y"]


def test_without_common_parameters_the_best_trial_is_recommended() -> None:
    study = optuna.create_study(direction="maximize")
    add(study, 0.2, {"x": 0.5})
    add(study, 0.3, {"y": 0.5})
    summary = summarize(study)
    assert summary.recommended.number == summary.best.number == 1
    assert summary.expected is None and summary.usual_expected is None and summary.gain is None
    assert summary.near_optimal == () and not summary.converged
    assert summary.reason == "The trials have no hyper-parameters in common."


def test_one_trial_is_recommended_and_gains_nothing() -> None:
    summary = summarize(study_of(scattered(1)))
    assert summary.usual is not None
    assert summary.recommended.number == summary.usual.number == 0
    assert summary.gain == 0.0 and not summary.converged
    assert summary.reason == "To tell, 12 settings are needed; 1 has been tried."


def test_two_trials_of_one_setting_are_averaged() -> None:
    values = iter((0.4, 0.6))
    summary = summarize(study_of(scattered(1) * 2, lambda _: next(values)))
    assert summary.expected is not None
    assert summary.expected.value == pytest.approx(0.5, abs=0.02)
    assert summary.recommended.number == 1 and summary.gain == 0.0


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-300])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_of_equal_values_the_usual_setting_is_recommended(value: float, direction: str) -> None:
    summary = summarize(of_values(*[value] * 15, direction=direction))
    assert summary.recommended.number == 0
    assert not summary.gain
    assert summary.expected is not None
    assert summary.expected.value == pytest.approx(value, rel=1e-3, abs=1e-6)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid:RuntimeWarning")
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(
    "values",
    [
        (5e-324, 0.0),
        (1e-300, 2e-300, 0.0),
        (1.0, 1.0 + 2**-52),
        (1e15, 1e15 + 1.0, 1e15 + 2.0),
        (*[0.1] * 14, 1e300),
        (*[0.1] * 14, -1e300),
        (1e308, -1e308, 0.0, 1.7e308),
        (1e308, 1e308),
        (0.2, math.inf, -math.inf),
    ],
)
def test_extreme_values_have_a_summary(values: tuple[float, ...], direction: str) -> None:
    study = of_values(*values, direction=direction)
    summary = summarize(study)
    assert summary.recommended.value == study.best_value
    assert {n.name for n in summary.near_optimal} == {"x", "y"}


# Whether to search on


def searched(n_trials: int, seed: int = 0) -> Study:
    study = optuna.create_study(sampler=CoordinateDescentSampler(seed=seed), direction="maximize")
    for _ in range(n_trials):
        trial = study.ask(SQUARE)
        study.tell(trial, parabola(trial.params))
    return study


def test_a_search_has_not_converged_before_its_model_can_tell() -> None:
    summary = summarize(searched(8))
    assert not summary.converged
    assert summary.reason == "To tell, 12 settings are needed; 8 have been tried."


def test_a_search_far_from_the_optimum_has_not_converged() -> None:
    corner = [{"x": 0.5 + p["x"] / 2.0, "y": p["y"] / 3.0} for p in scattered(15)]
    summary = summarize(study_of(corner))
    assert not summary.converged
    assert "a search has converged when that is below" in summary.reason


@pytest.mark.parametrize("seed", range(2))
def test_a_smooth_search_converges(seed: int) -> None:
    summary = summarize(searched(25, seed))
    assert summary.converged
    assert "which is next to nothing" in summary.reason
    assert parabola(summary.recommended.params) > 0.999


@pytest.mark.parametrize("n_levels", [3, 15])
def test_an_exhausted_search_has_converged(n_levels: int) -> None:
    space = {name: IntDistribution(1, n_levels) for name in ("a", "b")}
    points = [{"a": a, "b": b} for a in range(1, n_levels + 1) for b in range(1, n_levels + 1)]
    study = study_of(points[:-1], lambda p: -((p["a"] - 2) ** 2) - p["b"], space)
    assert summarize(study).reason != "All settings have been tried."
    add(study, -1e3, points[-1], space)
    summary = summarize(study)
    assert summary.converged and summary.reason == "All settings have been tried."


def test_a_small_space_needs_no_more_settings_than_it_has() -> None:
    space = {"n": IntDistribution(0, 3)}
    summary = summarize(study_of([{"n": 0}, {"n": 2}], lambda p: p["n"], space))
    assert summary.reason == "To tell, 4 settings are needed; 2 have been tried."
