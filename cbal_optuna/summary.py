"""What a study has found: the usual and the best setting, and how precisely each hyper-parameter
must be set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.feasibility import is_feasible


NEAR_OPTIMAL = 0.01
USUAL = "usual"


@dataclass(frozen=True)
class NearOptimal:
    """The values of one hyper-parameter that trials within 1 % of the best one had.

    Attributes:
        name:
            The hyper-parameter.
        values:
            Those values in order, without repetitions.
        below, above:
            The nearest values tried outside of them; :obj:`None` where none was, so that the
            interval may go on, and for categories.
    """

    name: str
    values: tuple[Any, ...]
    below: Any | None
    above: Any | None


@dataclass(frozen=True)
class Summary:
    """A study's result.

    Attributes:
        usual:
            The trial of the usual setting, which studies of this package name in their user
            attribute :data:`USUAL`; trial 0 of other studies. :obj:`None` if it has no finite
            and feasible value.
        best:
            The best trial.
        near_optimal:
            One for each hyper-parameter.
    """

    usual: FrozenTrial | None
    best: FrozenTrial
    near_optimal: tuple[NearOptimal, ...]

    @property
    def gain(self) -> float | None:
        """By which share the best value is better than the usual one, as the trials have it: noise
        included."""
        if self.usual is None or not self.usual.value:
            return None
        assert self.best.value is not None
        return abs(self.best.value - self.usual.value) / abs(self.usual.value)


def summarize(study: Study) -> Summary:
    """The result of a single-objective study.

    Raises:
        ValueError: No trial has been completed, or none is feasible.
    """
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [t for t in completed if is_feasible(t)]
    best = study.best_trial
    near = _near_optimal_trials(trials, best, study.direction)
    return Summary(
        usual_trial(study),
        best,
        tuple(_near_optimal(name, trials, near, best) for name in best.params),
    )


def usual_trial(study: Study) -> FrozenTrial | None:
    """The trial of the usual setting: see :class:`Summary`."""
    params = study.user_attrs.get(USUAL)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        is_usual = trial.number == 0 if params is None else trial.params == params
        assert trial.value is not None
        if is_usual and is_feasible(trial) and math.isfinite(trial.value):
            return trial
    return None


def _near_optimal_trials(
    trials: Sequence[FrozenTrial], best: FrozenTrial, direction: StudyDirection
) -> list[FrozenTrial]:
    assert best.value is not None
    slack = NEAR_OPTIMAL * abs(best.value) if math.isfinite(best.value) else 0.0
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    return [
        t
        for t in trials
        if t.value is not None
        and (t.value == best.value or sign * (best.value - t.value) <= slack)
    ]


def _near_optimal(
    name: str, trials: Sequence[FrozenTrial], near: Sequence[FrozenTrial], best: FrozenTrial
) -> NearOptimal:
    distribution = best.distributions[name]
    values = {t.params[name] for t in near if name in t.params}
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        return NearOptimal(name, tuple(c for c in choices if c in values), None, None)
    tried = {t.params[name] for t in trials if name in t.params}
    low, high = min(values), max(values)
    below = max((v for v in tried if v < low), default=None)
    above = min((v for v in tried if v > high), default=None)
    return NearOptimal(name, tuple(sorted(values)), below, above)
