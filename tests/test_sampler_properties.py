"""What holds of every suggestion, whatever the space and whatever the trials before it."""

from __future__ import annotations

from collections import Counter
import copy
import math
from typing import Any

from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.feasibility import is_feasible
from cbal_optuna.search import Axis
from cbal_optuna.search import LINE_SEARCHES
from cbal_optuna.search import Point
from cbal_optuna.search import Space


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

Case = tuple[dict[str, BaseDistribution], list[FrozenTrial]]

CHOICES = (None, True, False, "adam", "sgd", 8, 16, 32, 0.5, math.nan)
numbers = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def floats(draw: st.DrawFn) -> FloatDistribution:
    if draw(st.booleans()):
        low = draw(st.floats(1e-6, 1e3))
        return FloatDistribution(low, low * draw(st.just(1.0) | st.floats(1.001, 1e4)), log=True)
    low = draw(numbers)
    if draw(st.booleans()):
        return FloatDistribution(low, low + draw(st.floats(0.0, 1e4)))
    step = draw(st.sampled_from([0.1, 0.25, 1.0]))
    return FloatDistribution(0.0, round(step * draw(st.integers(0, 12)), 6), step=step)


@st.composite
def ints(draw: st.DrawFn) -> IntDistribution:
    if draw(st.booleans()):
        low = draw(st.integers(1, 50))
        return IntDistribution(low, low + draw(st.integers(0, 1000)), log=True)
    low, step = draw(st.integers(-50, 50)), draw(st.integers(1, 3))
    return IntDistribution(low, low + step * draw(st.integers(0, 12)), step=step)


def categoricals() -> st.SearchStrategy[CategoricalDistribution]:
    nominal = st.lists(st.sampled_from(CHOICES), min_size=1, max_size=5, unique_by=repr)
    ordered = st.lists(st.integers(1, 512), min_size=1, max_size=5, unique=True).map(sorted)
    return (nominal | ordered).map(CategoricalDistribution)


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, BaseDistribution]:
    names = "abcd"[: draw(st.integers(1, 4))]
    return {name: draw(floats() | ints() | categoricals()) for name in names}


# As they are most often, and as they are at all.
states = st.just(TrialState.COMPLETE) | st.sampled_from(TrialState)
values = st.floats(-1e3, 1e3) | st.floats(allow_nan=False)


@st.composite
def params_in(draw: st.DrawFn, space: dict[str, BaseDistribution]) -> dict[str, Any]:
    return {name: Axis(name, d).decode(draw(st.floats(0.0, 1.0))) for name, d in space.items()}


@st.composite
def trials_in(draw: st.DrawFn, space: dict[str, BaseDistribution], whole: bool) -> FrozenTrial:
    """A trial of any state. If ``whole``, those with a result have all parameters."""
    state = draw(states)
    params = draw(params_in(space))
    if not whole or state not in (TrialState.COMPLETE, TrialState.PRUNED):
        names = draw(st.just(set(space)) | st.sets(st.sampled_from(sorted(space))))
        params = {name: params[name] for name in sorted(names)}
    attributes: dict[str, Any] = {}
    if state == TrialState.WAITING:
        attributes["fixed_params"], params = params, {}
    elif draw(st.integers(0, 4)) == 0:
        attributes["constraints:memory"] = 1.0
    valued = state == TrialState.COMPLETE or (state == TrialState.PRUNED and draw(st.booleans()))
    return create_trial(
        state=state,
        value=draw(values) if valued else None,
        params=params,
        distributions={name: space[name] for name in params},
        system_attrs=attributes,
    )


@st.composite
def histories(draw: st.DrawFn, *, whole: bool) -> Case:
    space = draw(spaces())
    # A list drawn as such is mostly a short one.
    return space, [draw(trials_in(space, whole)) for _ in range(draw(st.integers(0, 16)))]


class Unwanted(RandomSampler):
    """In place of a fallback that is not to be needed."""

    def sample_independent(self, *arguments: Any) -> Any:
        raise AssertionError(f"{arguments[2]} is sampled independently")


def study_of(
    trials: list[FrozenTrial],
    line_search: str,
    direction: str = "minimize",
    fallback: RandomSampler | None = None,
) -> Study:
    sampler = CoordinateDescentSampler(
        line_search=line_search,
        seed=0,
        independent_sampler=fallback,
        warn_independent_sampling=False,
    )
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.add_trials(trials)
    return study


def suggest(trial: Trial, space: dict[str, BaseDistribution]) -> dict[str, Any]:
    return {name: trial._suggest(name, d) for name, d in space.items()}


def taken(study: Study, space: Space) -> set[Point]:
    """Where nothing is to be evaluated any more, or just now."""
    points, failures = set(), Counter[Point]()
    for trial in study.get_trials(deepcopy=False):
        point = space.encode({**trial.system_attrs.get("fixed_params", {}), **trial.params})
        if point is None:
            continue
        if trial.state == TrialState.FAIL and is_feasible(trial):
            failures[point] += 1
        else:
            points.add(point)
    return points | {point for point, n in failures.items() if n >= 3}


@pytest.mark.parametrize("line_search", LINE_SEARCHES)
@given(case=histories(whole=False), direction=st.sampled_from(["minimize", "maximize"]))
@settings(max_examples=60, deadline=None)
def test_a_suggestion_is_a_value_of_its_distribution(
    line_search: str, case: Case, direction: str
) -> None:
    space, trials = case
    study = study_of(trials, line_search, direction)
    for trial in [study.ask() for _ in range(3)]:
        for name, value in trial.relative_params.items():
            assert space[name]._contains(space[name].to_internal_repr(value))
        suggest(trial, space)


@pytest.mark.parametrize("line_search", LINE_SEARCHES)
@given(case=histories(whole=True), direction=st.sampled_from(["minimize", "maximize"]))
@settings(max_examples=60, deadline=None)
def test_no_point_is_suggested_twice_while_others_are_left(
    line_search: str, case: Case, direction: str
) -> None:
    distributions, trials = case
    assume(any(trial.state == TrialState.COMPLETE for trial in trials))
    space = Space.of(distributions)
    # Wherever these will be: the sampler keeps a point for them.
    n_kept = sum(t.state == TrialState.RUNNING and space.encode(t.params) is None for t in trials)
    study = study_of(trials, line_search, direction, Unwanted())
    for trial in [study.ask() for _ in range(3)]:
        others = taken(study, space)
        point = space.encode(suggest(trial, distributions))
        enqueued = "fixed_params" in study.trials[trial.number].system_attrs
        assert enqueued or point not in others or len(others) + n_kept >= space.size


@pytest.mark.parametrize("line_search", LINE_SEARCHES)
@given(case=histories(whole=True))
@settings(max_examples=30, deadline=None)
def test_maximising_is_minimising_the_negative(line_search: str, case: Case) -> None:
    space, trials = case
    mirrored = copy.deepcopy(trials)
    for trial in mirrored:
        trial.values = None if trial.values is None else [-value for value in trial.values]
    suggestions = [
        suggest(study_of(history, line_search, direction).ask(), space)
        for history, direction in ((trials, "minimize"), (mirrored, "maximize"))
    ]

    assert repr(suggestions[0]) == repr(suggestions[1])


@pytest.mark.parametrize("line_search", LINE_SEARCHES)
@given(case=histories(whole=True), turns=st.lists(st.integers(0, 11), max_size=24))
@settings(max_examples=30, deadline=None)
def test_a_worker_that_has_watched_the_others_decides_as_one_that_starts(
    line_search: str, case: Case, turns: list[int]
) -> None:
    space, trials = case
    study = study_of(trials, line_search)
    running: list[Trial] = []
    for turn in turns:
        if turn < 4 or not running:
            running.append(study.ask())
            suggest(running[-1], space)
        else:
            state = TrialState.FAIL if turn == 11 else TrialState.COMPLETE
            value = None if turn == 11 else float(turn)
            study.tell(running.pop(turn % len(running)), value, state)
    other = study_of(study.trials, line_search)

    assert repr(suggest(study.ask(), space)) == repr(suggest(other.ask(), space))
