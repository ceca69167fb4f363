"""A study's finished trials as evaluations of points.

Finished trials do not change, so each is looked at once however often a study is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import math
from operator import attrgetter
import sys
from typing import TYPE_CHECKING
import weakref

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.claims import known_values
from cbal_optuna.conditional import Parameters
from cbal_optuna.feasibility import is_feasible
from cbal_optuna.search import History
from cbal_optuna.search import KnownNoise
from cbal_optuna.search import Point
from cbal_optuna.search import Replicates
from cbal_optuna.search import Space


if TYPE_CHECKING:
    from optuna.study import Study

# A point at which this many trials have failed is given up.
MAX_FAILURES = 3
#: The user attribute of a trial whose value is the mean of several trainings, for other folds or
#: with other seeds: their values, a list. All trials of a study have the same trainings, but that
#: some may be spared the last ones, and say in :data:`TRAININGS` how many they had.
VALUES = "values"
TRAININGS = "trainings"


class StudyHistory:
    """What can be read of a study, kept from one reading to the next.

    Attributes:
        trials:
            All trials, by number.
        under_way:
            Those that are not finished.
        parameters:
            Those of the completed ones.
        maximizes:
            Whether the study does.
        read_for:
            The id of the trial, if any, for which nothing has been read since.
    """

    def __init__(self, study: Study) -> None:
        self._storage = weakref.ref(study._storage)
        self._study_id = study._study_id
        self.maximizes = study.direction == StudyDirection.MAXIMIZE
        self.read_for: int | None = None
        self._finished: dict[int, FrozenTrial] = {}
        # All trials below this number are finished and known.
        self._n_settled = 0
        self.parameters = Parameters()
        self._space: Space | None = None
        self._history = History()
        self._failures: Counter[Point] = Counter()
        self._replicates = Replicates()
        self.trials: list[FrozenTrial] = []
        self.under_way: list[FrozenTrial] = []

    def is_of(self, study: Study) -> bool:
        return self._storage() is study._storage and self._study_id == study._study_id

    def read(self, study: Study) -> None:
        """Look at what is new."""
        self.read_for = None
        # Not `study.get_trials`: a HyperbandPruner shows each bracket its own trials only, and
        # that copies each of them.
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        self.trials = sorted(trials, key=attrgetter("number"))
        if not self._is_continued():
            self._finished, self._n_settled, self._space = {}, 0, None
            self.parameters, self._replicates = Parameters(), Replicates()
        self.under_way = []
        finished: list[FrozenTrial] = []
        for trial in self.trials[self._n_settled :]:
            if trial.number in self._finished:
                continue
            if not trial.state.is_finished():
                self.under_way.append(trial)
                continue
            finished.append(trial)
            if trial.state == TrialState.COMPLETE:
                self.parameters.add(trial)
        self._n_settled = self.under_way[0].number if self.under_way else len(self.trials)
        self._take(finished)

    def _take(self, finished: Sequence[FrozenTrial]) -> None:
        most = self._replicates.most_trainings
        for trial in finished:
            self._finished[trial.number] = trial
            if values := _values_of_trainings(trial):
                self._replicates.add(values)
        if self._replicates.most_trainings > most:
            # What has fewer counts less than it did.
            self._space = None
        if self._space is not None:
            for trial in finished:
                self._add(trial, self._space)

    def _is_continued(self) -> bool:
        """Whether the trials are still those of the study, and not of one that was made after it
        was deleted: a database may give it the same id."""
        newest = next(reversed(self._finished.values()), None)
        if newest is None or newest.number >= len(self.trials):
            return newest is None
        return self.trials[newest.number].datetime_complete == newest.datetime_complete

    @property
    def first(self) -> int | None:
        """The number of the first trial that has not failed."""
        return next((t.number for t in self.trials if t.state != TrialState.FAIL), None)

    def evaluations(self, space: Space) -> History:
        """The points of a space that have been evaluated, a higher value being better."""
        if space != self._space:
            self._space, self._history, self._failures = space, History(), Counter()
            for trial in self._finished.values():
                self._add(trial, space)
        noise = self._replicates.of_one_training
        if noise is not None:
            variance = noise.variance / self._replicates.most_trainings
            self._history.known_noise = KnownNoise(variance, noise.degrees)
        return self._history

    def _add(self, trial: FrozenTrial, space: Space) -> None:
        point = space.encode(known_values(trial, space))
        if point is None:
            return
        if trial.state == TrialState.FAIL and is_feasible(trial):
            self._failures[point] += 1
            # The workers may have been killed, and the next retry may succeed.
            if self._failures[point] == MAX_FAILURES:
                self._history.give_up(trial.number, point)
            return
        values = _values_of_trainings(trial)
        count = len(values) / self._replicates.most_trainings if values else 1.0
        self._history.add(trial.number, point, self._value(trial), count)

    def _value(self, trial: FrozenTrial) -> float:
        """The value to be maximised."""
        if trial.state != TrialState.COMPLETE or not is_feasible(trial):
            return -math.inf
        assert trial.value is not None
        return trial.value if self.maximizes else -trial.value


def _values_of_trainings(trial: FrozenTrial) -> list[float]:
    """Those that a trial has, if these are what its value is made of."""
    values = trial.user_attrs.get(VALUES)
    if trial.state != TrialState.COMPLETE or not isinstance(values, list) or not values:
        return []
    # Nothing is more than NaN or less; whole numbers may be too large for a float.
    if not all(isinstance(v, (int, float)) and abs(v) <= sys.float_info.max for v in values):
        return []
    assert trial.value is not None
    mean = math.fsum(v / len(values) for v in values)
    is_mean = math.isclose(mean, trial.value, rel_tol=1e-6)
    return list(map(float, values)) if is_mean or TRAININGS in trial.user_attrs else []
