"""What a study has found: the usual and the recommended setting, what to expect of them, how
precisely each hyper-parameter must be set, and whether to search on."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.claims import known_values
from cbal_optuna.feasibility import is_feasible
from cbal_optuna.search import History
from cbal_optuna.search import most_promising
from cbal_optuna.search import Point
from cbal_optuna.search import Response
from cbal_optuna.search import Space
from cbal_optuna.study_history import StudyHistory


NEAR_OPTIMAL = 0.01
USUAL = "usual"
# A search has converged when a trial is expected to gain less than this share of the recommended
# value, or this one of what the recommended setting has over the median of all trials.
_LITTLE = 0.001
_LITTLE_OF_SPREAD = 0.01
# Before as many trials for each hyper-parameter, and once more, the model knows too little to say
# so. On noise alone its intervals of 95 % held the truth in 10 to 50 of 100 studies until then.
_TRIALS_PER_AXIS = 4
# From a model that predicts a smaller share of the differences between trials, nothing is claimed:
# of pure noise it may seem to predict as much.
_MIN_SKILL = 0.5
# Of an estimate of the noise, which is then good to about a quarter.
_ENOUGH_DEGREES = 8
_LINE = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True)
class Expectation:
    """What a setting is expected to score, according to all trials: noise averaged out.

    Attributes:
        value:
            The expected value.
        low, high:
            The ends of a 95 % interval for it.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class NearOptimal:
    """The values of one hyper-parameter that are expected to cost at most 1 % of the recommended
    value, the others being as recommended.

    Attributes:
        name:
            The hyper-parameter.
        values:
            Of a continuous one, the two ends of the interval; else the values, in order.
        bounded_below, bounded_above:
            Whether worse values are known on that side; if not, the interval goes to the end of
            the range. Categories without an order are bounded on both sides.
    """

    name: str
    values: tuple[Any, ...]
    bounded_below: bool
    bounded_above: bool


@dataclass(frozen=True)
class Summary:
    """A study's result.

    Attributes:
        usual:
            The trial of the usual setting, which studies of this package name in their user
            attribute :data:`USUAL`; in other studies it is that of trial 0. :obj:`None` if no
            trial has a finite and feasible value of it.
        best:
            The trial of the best value, luck included.
        recommended:
            The trial whose setting is expected to be the best, according to all trials.
        expected, usual_expected:
            What the recommended and the usual setting are expected to score; :obj:`None` where the
            trials have no hyper-parameters in common.
        noise:
            The standard deviation of the value of one trial close to the recommended setting, as
            estimated.
        noise_is_known:
            Whether the trials have repeats or folds that tell it.
        tentative:
            Whether the trials are too few, or so noisy that the model predicts less than half of
            the differences between them: the intervals, and the noise unless it is known, are then
            likely to be too small, and a gain may be luck.
        near_optimal:
            One for each hyper-parameter that the recommended setting has.
        converged:
            Whether further trials are expected to gain next to nothing.
        reason:
            Why it has or has not, in a sentence.
    """

    usual: FrozenTrial | None
    best: FrozenTrial
    recommended: FrozenTrial
    expected: Expectation | None
    usual_expected: Expectation | None
    noise: float | None
    noise_is_known: bool
    tentative: bool
    near_optimal: tuple[NearOptimal, ...]
    converged: bool
    reason: str

    @property
    def gain(self) -> float | None:
        """By which share the recommended setting is expected to be better than the usual one."""
        if self.expected is None or self.usual_expected is None or not self.usual_expected.value:
            return None
        usual = self.usual_expected.value
        return abs(self.expected.value - usual) / abs(usual)


def summarize(study: Study) -> Summary:
    """The result of a single-objective study, whichever sampler it had.

    Raises:
        ValueError: No trial has been completed, or none is feasible.
    """
    best, usual = study.best_trial, usual_trial(study)
    model = _Model(study)
    if model.response is None:
        reason = "The trials have no hyper-parameters in common."
        if model.space.axes:
            reason = "No setting has a finite value."
        return Summary(usual, best, best, None, None, None, False, True, (), False, reason)
    response, space = model.response, model.space
    point, recommended = model.recommended()
    usual_point = None if usual is None else space.encode(known_values(usual, space))
    converged, reason = _convergence(response, model.evaluations, space, point)
    return Summary(
        usual,
        best,
        recommended,
        _expectation(response, point, study.direction),
        None if usual_point is None else _expectation(response, usual_point, study.direction),
        response.noise,
        _knows_noise(model.evaluations),
        len(response.points) < _enough(space) or response.skill < _MIN_SKILL,
        tuple(
            _near_optimal(response, space, j, point)
            for j, name in enumerate(space.names)
            if name not in space.idle(point)
        ),
        converged,
        reason,
    )


def recommended_trial(study: Study) -> FrozenTrial:
    """The trial whose setting is expected to be the best, as in :func:`summarize`, but sooner.

    Raises:
        ValueError: No trial has been completed, or none is feasible.
    """
    best, model = study.best_trial, _Model(study)
    return best if model.response is None else model.recommended()[1]


def usual_trial(study: Study) -> FrozenTrial | None:
    """The trial of the usual setting: see :class:`Summary`."""
    trials = study.get_trials(deepcopy=False)
    params = study.user_attrs.get(USUAL)
    if params is None and trials:
        params = trials[0].params
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.params == params and is_feasible(trial):
            assert trial.value is not None
            if math.isfinite(trial.value):
                return trial
    return None


class _Model:
    """What all trials of a study say together."""

    def __init__(self, study: Study) -> None:
        history = StudyHistory(study)
        history.read(study)
        self._trials = history.trials
        self._sign = -1.0 if history.maximizes else 1.0
        self.space = history.parameters.space(history.parameters.distributions)
        self.evaluations = history.evaluations(self.space)
        is_known = bool(self.space.axes) and self.evaluations.any_finite
        self.response = Response(self.evaluations, (), self.space, seed=0) if is_known else None

    def recommended(self) -> tuple[Point, FrozenTrial]:
        """The point that is expected to be best, and the best trial there."""
        assert self.response is not None
        trials: dict[Point | None, FrozenTrial] = {}
        for trial in self._trials:
            if trial.state == TrialState.COMPLETE and is_feasible(trial):
                point = self.space.encode(known_values(trial, self.space))
                other = trials.setdefault(point, trial)
                assert trial.value is not None and other.value is not None
                if self._sign * trial.value < self._sign * other.value:
                    trials[point] = trial
        for ranked in self.response.ranked:
            point = tuple(ranked.tolist())
            if point in trials and self.evaluations.value(point) > -math.inf:
                return point, trials[point]
        raise AssertionError("The model is of other points than the trials.")


def _expectation(response: Response, point: Point, direction: StudyDirection) -> Expectation:
    value = response.expected_values(np.array([point]))[0]
    low, high = response.interval(point)
    if direction == StudyDirection.MINIMIZE:
        value, low, high = -value, -high, -low
    return Expectation(float(value), low, high)


def _near_optimal(response: Response, space: Space, j: int, point: Point) -> NearOptimal:
    axis = space.axes[j]
    has_levels = axis.n_levels is not None and axis.n_levels <= len(_LINE)
    positions = np.array(list(axis.levels())) if has_levels else np.union1d(_LINE, point[j])
    line = np.tile(point, (len(positions), 1))
    line[:, j] = positions
    values = response.expected_values(line)
    own = int(np.abs(positions - point[j]).argmin())
    near = values >= values[own] - NEAR_OPTIMAL * abs(values[own])
    if axis.nominal:
        chosen = tuple(axis.decode(p) for p in positions[near].tolist())
        return NearOptimal(axis.name, chosen, True, True)
    worse = np.flatnonzero(~near)
    first = int(worse[worse < own].max(initial=-1)) + 1
    last = int(worse[worse > own].min(initial=len(positions))) - 1
    ends = range(first, last + 1) if has_levels else (first, last)
    chosen = tuple(dict.fromkeys(axis.decode(float(positions[i])) for i in ends))
    return NearOptimal(axis.name, chosen, first > 0, last < len(positions) - 1)


def _knows_noise(evaluations: History) -> bool:
    noise = evaluations.known_noise
    return noise is not None and noise.degrees >= _ENOUGH_DEGREES


def _enough(space: Space) -> int:
    return _TRIALS_PER_AXIS * (len(space.axes) + 1)


def _convergence(
    response: Response, evaluations: History, space: Space, point: Point
) -> tuple[bool, str]:
    """Whether the next trial is expected to gain next to nothing, and the reason."""
    needed = min(_enough(space), space.size)
    if len(evaluations) < needed:
        tried = "1 has" if len(evaluations) == 1 else f"{len(evaluations)} have"
        return False, f"To tell, {needed} settings are needed; {tried} been tried."
    proposal = most_promising(response, evaluations.__contains__, space, np.random.default_rng(0))
    if proposal is None:
        return True, "All settings have been tried."
    assert proposal.expected_improvement is not None
    gain = proposal.expected_improvement
    values = response.expected_values(np.vstack([point, response.points]))
    little = max(_LITTLE * abs(values[0]), _LITTLE_OF_SPREAD * (values[0] - np.median(values)))
    text = f"The next trial is expected to gain {gain:.2g}"
    if gain <= little:
        return True, f"{text}, which is next to nothing: less than {little:.2g}."
    return False, f"{text}; a search has converged when that is below {little:.2g}."
