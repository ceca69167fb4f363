"""Coordinate descent as an Optuna sampler: a thin adapter between a study's trials and
:mod:`cbal_optuna.search`."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from difflib import get_close_matches
import threading
from typing import Any
from typing import TYPE_CHECKING
import warnings
import zlib

import numpy as np
from optuna import logging
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.claiming import claim_point
from cbal_optuna.claiming import is_contested
from cbal_optuna.claims import known_values
from cbal_optuna.conditional import common_distributions
from cbal_optuna.conditional import Parameters
from cbal_optuna.number_kinds import is_number
from cbal_optuna.number_kinds import is_whole
from cbal_optuna.search import Axis
from cbal_optuna.search import DescentOptions
from cbal_optuna.search import History
from cbal_optuna.search import LINE_SEARCHES
from cbal_optuna.search import Proposal
from cbal_optuna.search import Space
from cbal_optuna.study_history import MAX_FAILURES
from cbal_optuna.study_history import StudyHistory


if TYPE_CHECKING:
    from optuna.study import Study

_logger = logging.get_logger(__name__)

# The user attribute that says why a trial is where it is.
EXPLANATION = "search"
# How alike a name is to the one that it may be meant for, by difflib's measure.
_ALIKE = 0.8


class CoordinateDescentSampler(BaseSampler):
    """Coordinate descent with line searches, for objectives whose evaluations are few, expensive
    and noisy.

    One axis after the other is stepped along from the best trial so far. After this first cycle, a
    Gaussian process on all trials says where on the lines through the incumbent (along an axis,
    along two whose ratio or product stays the same, towards another good trial) the largest
    improvement is to be expected, or, when no line promises as much, where in the whole space.
    Floats, ints and categoricals whose choices are increasing numbers (batch sizes) are searched
    by lines; other categoricals level by level.

    The sampler keeps no state that is not in the study: each point is computed from its trials. A
    study can be stopped and resumed, and any number of threads, processes and machines can share
    it; each is given another point, without waiting for anybody. A point whose trial failed is
    evaluated again, and given up after three failures; trials that were pruned or that violate a
    constraint count as worse than every other. Where values are means of several trainings, and
    the trials have them as the user attribute ``values``, the model knows how noisy they are.

    Each trial says why it is where it is in its user attribute ``search``: the line, the trial
    from which it is searched (``incumbent``), how far from there (``step``, by parameter, as a
    share of its range), and the ``expected_improvement`` in the unit of the objective.

    A conditional parameter, which trials have or not as another one decides (a categorical by its
    choice, an int or ordered numbers by being above or below some value), is searched where it
    has an effect; it starts where it is first asked for. Other parameters that not every completed
    trial has, and those whose range changes, are sampled independently, as by Optuna's own
    relative samplers.

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
            sampled. Of a name that no trial has asked for there is a warning if it resembles one
            that is not named; others may be of trials to come.
        order:
            Names of parameters in the order in which they are searched; those not named follow in
            alphabetical order.
        line_search:
            ``"surrogate"``: on the model, at up to 50 ms a trial; ``"parabolic"``: brackets and
            parabolas along one axis after the other, without a model.
        initial_step:
            The first step on every axis, as a share of its range, in (0, 1].
        tolerance:
            The step, as a share of the range, below which a descent without a model has converged.
            The next one then starts from a random point.
        seed:
            Seed of all that is random; by default it follows from the study's name. With the same
            seed and the same trials the same point is given, in whatever process.
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
        line_search: str = "surrogate",
        initial_step: float = 0.25,
        tolerance: float = 0.015,
        seed: int | None = None,
        independent_sampler: BaseSampler | None = None,
        warn_independent_sampling: bool = True,
    ) -> None:
        if line_search not in LINE_SEARCHES:
            allowed = ", ".join(map(repr, LINE_SEARCHES))
            raise ValueError(f"`line_search` is {line_search!r}; it should be one of {allowed}.")
        if not is_number(initial_step) or not 0.0 < initial_step <= 1.0:
            raise ValueError(
                f"`initial_step` is {initial_step!r}; it should be a number in (0, 1]."
            )
        if not is_number(tolerance) or not 0.0 < tolerance <= initial_step:
            raise ValueError(
                f"`tolerance` is {tolerance!r}; it should be a positive number, at most "
                "`initial_step`."
            )
        if isinstance(order, str) or len(set(order or ())) < len(order or ()):
            raise ValueError(f"`order` is {order!r}; it should be a sequence of different names.")
        if seed is not None and (not is_whole(seed) or seed < 0):
            raise ValueError(
                f"`seed` is {seed!r}; it should be None or a whole number of at least 0."
            )
        self._x0 = dict(x0 or {})
        self._order = tuple(order or ())
        self._line_search = line_search
        self._initial_step = initial_step
        self._tolerance = tolerance
        self._seed = seed
        self._independent_sampler = independent_sampler
        self._warn_independent_sampling = warn_independent_sampling
        self._x0_checked = not self._x0
        self._cache = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cache"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _cache=threading.local())

    def reseed_rng(self) -> None:
        # The descent has no random stream that parallel workers could share: see `claim_point`.
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        history = self._history(study)
        history.read_for = trial._trial_id
        self._check_names_of_x0(history.parameters)
        distributions = history.parameters.distributions
        if history.parameters.common is None:
            # Before the first result, other trials already show the space to workers that start
            # together.
            others = [t.distributions for t in history.trials if t.number != trial.number]
            distributions = common_distributions(*filter(None, others))
        return {n: d for n, d in distributions.items() if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        history = self._history(study, trial)
        space = history.parameters.space(search_space)
        if not space.axes:
            return {}
        options = self._descent_options(study, space)
        own = space.encode(known_values(trial, space))
        if own is None or is_contested(trial, own, space, options, self._history(study)):
            history = self._history(study, trial)
            proposal = claim_point(study, trial, space, search_space, options, history)
            _explain(study, trial, proposal, space, history.evaluations(space))
            own = proposal.point
        idle = space.idle(own)
        decided = [(a, p) for a, p in zip(space.axes, own) if a.name not in idle]
        return {axis.name: self._value_at(axis, position) for axis, position in decided}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        history = self._history(study)
        axis = Axis(param_name, param_distribution)
        earlier = [t.state for t in history.trials[: trial.number]]
        is_first = len(earlier) < MAX_FAILURES and all(s == TrialState.FAIL for s in earlier)
        parameters = history.parameters
        if is_first or not (parameters.common is None or parameters.knows(param_name)):
            return self._start_value(axis)
        if self._warn_independent_sampling and parameters.common is not None:
            _logger.warning(
                f"The parameter {param_name!r} of trial {trial.number} is sampled independently, "
                "because not every completed trial has it with the same distribution, and no "
                "other parameter is seen to decide which ones do. Set "
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

    def _check_names_of_x0(self, parameters: Parameters) -> None:
        if self._x0_checked or parameters.common is None:
            return
        self._x0_checked = True
        unnamed = [name for name in parameters.names if name not in self._x0]
        for name in self._x0:
            alike = get_close_matches(str(name), unnamed, 1, _ALIKE)
            if alike and not parameters.knows(name):
                warnings.warn(
                    f"`x0` names {name!r}, which no trial has asked for, and not {alike[0]!r}; "
                    f"the parameters are {', '.join(parameters.names)}",
                    stacklevel=2,
                )

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

    def _history(self, study: Study, trial: FrozenTrial | None = None) -> StudyHistory:
        """What is finished now, read by this thread; for a trial whose search space has just been
        asked for, what was read then."""
        self._raise_error_if_multi_objective(study)
        history: StudyHistory | None = getattr(self._cache, "history", None)
        if history is None or not history.is_of(study):
            history = self._cache.history = StudyHistory(study)
        if trial is None or history.read_for != trial._trial_id:
            history.read(study)
        return history


def _explain(
    study: Study, trial: FrozenTrial, proposal: Proposal, space: Space, history: History
) -> None:
    """Say on the trial why it is where it is, for people to see."""
    reason: dict[str, Any] = {"line": proposal.line}
    if proposal.origin is not None:
        if proposal.origin in history:
            reason["incumbent"] = history.number(proposal.origin)
        steps = zip(space.names, proposal.origin, proposal.point)
        idle = space.idle(proposal.origin) | space.idle(proposal.point)
        reason["step"] = {n: round(q - p, 6) for n, p, q in steps if p != q and n not in idle}
    if proposal.expected_improvement is not None:
        reason["expected_improvement"] = proposal.expected_improvement
    study._storage.set_trial_user_attr(trial._trial_id, EXPLANATION, reason)
