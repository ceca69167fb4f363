"""Coordinate descent as an Optuna sampler: a thin adapter between a study's trials and
:mod:`cbal_optuna.search`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any
from typing import TYPE_CHECKING
import zlib

import numpy as np
from optuna import logging
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.feasibility import is_feasible
from cbal_optuna.search import Axis
from cbal_optuna.search import DescentOptions
from cbal_optuna.search import History
from cbal_optuna.search import LINE_SEARCHES
from cbal_optuna.search import next_point
from cbal_optuna.search import Point
from cbal_optuna.search import Space


if TYPE_CHECKING:
    from optuna.study import Study

_logger = logging.get_logger(__name__)

_CLAIM = "cbal:claim"
# How often a worker looks whether its claim stands, and how many of these times it waits for later
# ones to leave its point.
_MAX_CLAIM_READS = 50
_MAX_WAITS = 10
# A point at which this many trials have failed is given up.
_MAX_FAILURES = 3


class CoordinateDescentSampler(BaseSampler):
    """Coordinate descent with line searches, for objectives whose evaluations are few and
    expensive.

    One axis after the other is searched along a line through the best trial so far: a step to
    either side, growing steps while they improve, then a parabola through the best three. Steps
    shrink by themselves; a cycle that moved several axes is followed by a step along the total
    displacement. Floats, ints and categoricals whose choices are increasing numbers (batch sizes)
    are searched by lines; other categoricals level by level.

    The sampler keeps no state: each point is computed from the study's trials. A study can be
    stopped and resumed, and any number of threads, processes and machines can share it; each is
    given another point, without waiting for anybody. A point whose trial failed is evaluated
    again, and given up after three failures; trials that were pruned or that violate a constraint
    count as worse than every other.

    Parameters that not every completed trial has (conditional ones, or ones whose range changes)
    are sampled independently, as by Optuna's own relative samplers.

    Example:
        .. testcode::

            import optuna
            from cbal_optuna import CoordinateDescentSampler


            def objective(trial):
                balance = trial.suggest_float("balance", 0.1, 10, log=True)
                batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
                return (balance - 2) ** 2 + abs(batch_size - 128) / 128


            sampler = CoordinateDescentSampler(x0={"balance": 1.0, "batch_size": 128})
            study = optuna.create_study(sampler=sampler)
            study.optimize(objective, n_trials=20)

    Args:
        x0:
            The start, by parameter name; the middle of its range for each parameter not named. A
            value outside a parameter's range is a :obj:`ValueError` when that parameter is
            sampled.
        order:
            Names of parameters in the order in which they are searched; those not named follow in
            alphabetical order.
        line_search:
            ``"parabolic"``: bracketing and parabolas, without a model.
        initial_step:
            The first step on every axis, as a share of its range, in (0, 1].
        tolerance:
            The step, as a share of the range, below which a descent has converged. The next one
            then starts from a random point.
        seed:
            Seed of those random points and of independent sampling; by default it follows from
            the study's name. With the same seed and the same trials the same point is given, in
            whatever process.
        independent_sampler:
            Samples the parameters that are sampled independently; by default uniformly at random.
        warn_independent_sampling:
            Whether to log a warning when a parameter is sampled independently once the search is
            under way.
    """

    def __init__(
        self,
        *,
        x0: Mapping[str, Any] | None = None,
        order: Sequence[str] | None = None,
        line_search: str = "parabolic",
        initial_step: float = 0.25,
        tolerance: float = 0.015,
        seed: int | None = None,
        independent_sampler: BaseSampler | None = None,
        warn_independent_sampling: bool = True,
    ) -> None:
        if line_search not in LINE_SEARCHES:
            allowed = ", ".join(map(repr, LINE_SEARCHES))
            raise ValueError(f"`line_search` is {line_search!r}; it should be one of {allowed}.")
        if not 0.0 < initial_step <= 1.0:
            raise ValueError(f"`initial_step` is {initial_step}; it should be in (0, 1].")
        if not 0.0 < tolerance <= initial_step:
            raise ValueError(
                f"`tolerance` is {tolerance}; it should be positive and at most `initial_step`."
            )
        if isinstance(order, str) or len(set(order or ())) < len(order or ()):
            raise ValueError(f"`order` is {order!r}; it should be a sequence of different names.")
        if seed is not None and seed < 0:
            raise ValueError(f"`seed` is {seed}; it should be None or not negative.")
        self._x0 = dict(x0 or {})
        self._order = tuple(order or ())
        self._line_search = line_search
        self._initial_step = initial_step
        self._tolerance = tolerance
        self._seed = seed
        self._independent_sampler = independent_sampler
        self._warn_independent_sampling = warn_independent_sampling

    def reseed_rng(self) -> None:
        # The descent has no random stream that parallel workers could share: see `_choose`.
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        trials = _all_trials(study)
        completed = [t for t in trials if t.state == TrialState.COMPLETE]
        # Before the first result, the trials under way already show the space to workers that
        # start together.
        shown = completed or [t for t in trials if t.distributions and t.number != trial.number]
        return {n: d for n, d in _common_distributions(shown).items() if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        space = Space.of(search_space)
        own = space.encode(_known_values(trial, space))
        if own is None:
            own = self._claim(study, trial, space, search_space)
        return {a.name: self._value_at(a, p) for a, p in zip(space.axes, own)}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        self._raise_error_if_multi_objective(study)
        axis = Axis(param_name, param_distribution)
        earlier = [t.state for t in _all_trials(study) if t.number < trial.number]
        if len(earlier) < _MAX_FAILURES and all(state == TrialState.FAIL for state in earlier):
            return self._start_value(axis)
        if self._warn_independent_sampling and TrialState.COMPLETE in earlier:
            _logger.warning(
                f"The parameter {param_name!r} of trial {trial.number} is sampled independently, "
                "because not every completed trial has it with the same distribution. Set "
                "`warn_independent_sampling` of `CoordinateDescentSampler` to False to suppress "
                "this warning."
            )
        if self._independent_sampler is not None:
            return self._independent_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        rng = np.random.default_rng(
            [self._seed_for(study), trial.number, zlib.crc32(param_name.encode())]
        )
        return axis.decode(axis.at_random(rng.random()))

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if self._independent_sampler is not None:
            self._independent_sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def _seed_for(self, study: Study) -> int:
        # Not drawn at random: the workers of a study, now and after a restart, are to agree.
        return zlib.crc32(study.study_name.encode()) if self._seed is None else self._seed

    def _start_value(self, axis: Axis) -> Any:
        if axis.name not in self._x0:
            return axis.decode(0.5)
        value, d = self._x0[axis.name], axis.distribution
        known = Space((axis,)).encode({axis.name: value}) is not None
        if not (known and d._contains(d.to_internal_repr(value))):
            raise ValueError(f"`x0[{axis.name!r}]` is {value!r}; it should be in {d}.")
        return d.to_external_repr(d.to_internal_repr(value))

    def _value_at(self, axis: Axis, position: float) -> Any:
        # Positions are rounded; a value that `x0` gives is not.
        start = self._start_value(axis)
        return start if axis.snap(axis.encode(start)) == position else axis.decode(position)

    def _descent_options(self, study: Study, space: Space) -> DescentOptions:
        start = space.encode({axis.name: self._start_value(axis) for axis in space.axes})
        assert start is not None
        names = space.names
        order = [n for n in self._order if n in names]
        order += sorted(n for n in names if n not in order)
        return DescentOptions(
            start=start,
            order=tuple(map(names.index, order)),
            line_search=self._line_search,
            initial_step=self._initial_step,
            tolerance=self._tolerance,
            seed=self._seed_for(study),
        )

    def _claim(
        self,
        study: Study,
        trial: FrozenTrial,
        space: Space,
        distributions: Mapping[str, BaseDistribution],
    ) -> Point:
        """Choose a point and write it on the trial for other workers to see.

        Two workers may choose the same point at the same time. Each writes its claim and then
        reads again: of the two, at least one sees the other. A point is kept when nobody else is
        seen on it. Until then the earliest trial stays, and reads again, as long as the others may
        still move; these take points that come later.
        """
        options = self._descent_options(study, space)
        history, pending, _ = _read(study, trial, space, options.start)
        point = _choose(history, pending, space, options, 0)
        _write_claim(study, trial, space.decode(point), distributions)
        n_waits = 0
        for _ in range(_MAX_CLAIM_READS):
            if point in history:
                break
            history, pending, holders = _read(study, trial, space, options.start)
            rivals = holders.get(point, [])
            if not rivals and point not in history:
                break
            n_earlier = sum(rival.number < trial.number for rival in rivals)
            wait = point not in history and not n_earlier and all(map(_may_move, rivals))
            if wait and n_waits < _MAX_WAITS:
                n_waits += 1
                continue
            point = _choose(history, pending, space, options, max(0, n_earlier - 1))
            _write_claim(study, trial, space.decode(point), distributions)
        return point


def _choose(
    history: History, pending: set[Point], space: Space, options: DescentOptions, rank: int
) -> Point:
    """The point that follows when ``rank`` others take theirs first."""
    taken = set(pending)
    for _ in range(rank):
        taken.add(next_point(history, taken, space, options))
    return next_point(history, taken, space, options)


def _read(
    study: Study, trial: FrozenTrial, space: Space, start: Point
) -> tuple[History, set[Point], dict[Point, list[FrozenTrial]]]:
    """The finished trials, the points under way, and the trials that hold them, but for one's own.

    When workers start together, some suggest one parameter after the other without a claim. Until
    all their values are known they hold the point that has the others of the start: the first
    trial is there, and any other may turn out to be.
    """
    evaluations: list[tuple[int, Point, float]] = []
    holders: dict[Point, list[FrozenTrial]] = {}
    failures: Counter[Point] = Counter()
    trials = _all_trials(study)
    first = next((t.number for t in trials if t.state != TrialState.FAIL), None)
    for other in trials:
        if other.number == trial.number:
            continue
        values = _known_values(other, space)
        under_way = not other.state.is_finished()
        if under_way and (values or other.number == first):
            values = {**space.decode(start), **values}
        point = space.encode(values)
        if point is None:
            continue
        if under_way:
            holders.setdefault(point, []).append(other)
        elif other.state == TrialState.FAIL and is_feasible(other):
            failures[point] += 1
            if failures[point] == _MAX_FAILURES:
                evaluations.append((other.number, point, -math.inf))
        else:
            evaluations.append((other.number, point, _value(other, study.direction)))
    return History(evaluations), set(holders), holders


def _all_trials(study: Study) -> list[FrozenTrial]:
    # Not `study.get_trials`: a HyperbandPruner shows each bracket its own trials only, and that
    # copies each of them.
    trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
    return sorted(trials, key=lambda t: t.number)


def _common_distributions(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The parameters that all trials have with equal distributions, by name."""
    if not trials:
        return {}
    common = dict(trials[0].distributions)
    for trial in trials[1:]:
        common = {n: d for n, d in common.items() if trial.distributions.get(n) == d}
    return dict(sorted(common.items()))


def _value(trial: FrozenTrial, direction: StudyDirection) -> float:
    """The value to be maximised."""
    if trial.state != TrialState.COMPLETE or not is_feasible(trial):
        return -math.inf
    assert trial.value is not None
    return trial.value if direction == StudyDirection.MAXIMIZE else -trial.value


def _known_values(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    """The values that a trial has, will have or had, as far as they are known."""
    fixed = trial.system_attrs.get("fixed_params", {})
    claim = trial.system_attrs.get(_CLAIM, {})
    values = {}
    for axis in space.axes:
        name = axis.name
        if name in trial.params:
            values[name] = trial.params[name]
        elif name in fixed:
            values[name] = fixed[name]
        elif name in claim:
            values[name] = axis.distribution.to_external_repr(claim[name])
    return values


def _may_move(trial: FrozenTrial) -> bool:
    """Whether a trial under way may not have verified its claim yet."""
    return trial.state == TrialState.RUNNING and _CLAIM in trial.system_attrs and not trial.params


def _write_claim(
    study: Study,
    trial: FrozenTrial,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
) -> None:
    claim = {n: float(distributions[n].to_internal_repr(v)) for n, v in params.items()}
    study._storage.set_trial_system_attr(trial._trial_id, _CLAIM, claim)
