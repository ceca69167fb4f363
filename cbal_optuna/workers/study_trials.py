"""The trials of a study, for workers: as many as are wanted and no more, though others on other
machines run trials of the same study."""

from __future__ import annotations

from collections.abc import Callable
import math
import random
import time

from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from tqdm import tqdm

from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.storage import Storage
from cbal_optuna.stored_trials import ask
from cbal_optuna.stored_trials import FAILURE
from cbal_optuna.stored_trials import retry_stale_trials
from cbal_optuna.study import MAX_FAILURES_IN_A_ROW
from cbal_optuna.study import Progress
from cbal_optuna.study import USABLE
from cbal_optuna.workers.pool import WorkerPool


# How long to let others go first, at most, when two wanted the last trial at once.
_MAX_DELAY_SECONDS = 2.0


def run_trials_with(
    workers: WorkerPool,
    study: Study,
    objective: Objective[Outcome],
    n_trials: int,
    timeout: float | None = None,
    between: Callable[[], None] = lambda: None,
    stop: Callable[[Study], bool] = lambda study: False,
) -> None:
    """Run trials with workers until the study has ``n_trials`` usable ones, those of others
    included, with a progress bar.

    Args:
        workers:
            Of the objective.
        study, objective, n_trials, timeout, stop:
            As in :func:`~cbal_optuna.study.run_trials`.
        between:
            Called twice a second and more; what it raises ends the run.

    Raises:
        FailingTrialsError: Three trials in a row failed, and one more for each further worker, as
            one cause may make those fail that run at once.
        NoWorkerError: All workers died, again and again, or their cluster is lost.
    """
    retry_stale_trials(study)
    n_done = len(study.get_trials(deepcopy=False, states=USABLE))
    if n_done >= n_trials:
        return
    with tqdm(total=n_trials, initial=n_done, desc=study.study_name, unit="trial") as bar:
        progress = Progress(bar, MAX_FAILURES_IN_A_ROW + len(workers) - 1)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        trials = _StudyTrials(
            study, workers.storage, objective.space, n_trials, deadline, progress, stop
        )
        workers.run(trials, between)


def _evaluated(objective: Objective[Outcome], trial: Trial) -> float:
    """What a worker does with a trial."""
    return objective(trial)


class _StudyTrials:
    """What the workers are given: see :class:`~cbal_optuna.workers.TrialSource`."""

    evaluation = staticmethod(_evaluated)

    def __init__(
        self,
        study: Study,
        storage: Storage,
        space: SearchSpace,
        n_trials: int,
        deadline: float,
        progress: Progress,
        stop: Callable[[Study], bool],
    ) -> None:
        self.study = study
        self._storage = storage
        self._space = space
        self._n_trials = n_trials
        self._deadline = deadline
        self._progress = progress
        self._stop = stop
        self._n_done = self._count(USABLE)
        self._is_stopped = False
        self._not_before = 0.0

    def is_over(self) -> bool:
        n_done = self._count(USABLE)
        if n_done != self._n_done:
            self._n_done = n_done
            self._progress.show(self.study)
        is_late = time.monotonic() >= self._deadline
        return self._is_stopped or is_late or n_done >= self._n_trials

    def next(self) -> Trial | None:
        """The next trial, if it is still wanted when those under way are done.

        All who share the study count after they have asked, so that of two who ask for the last
        one at least one sees the other. Who sees that there are too many puts its own back.
        """
        expected = (*USABLE, TrialState.RUNNING)
        if time.monotonic() < self._not_before or self._count(expected) >= self._n_trials:
            return None
        trial = ask(self.study)
        if self._count(expected) > self._n_trials:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            self._not_before = time.monotonic() + random.uniform(0.0, _MAX_DELAY_SECONDS)
            return None
        try:
            self._space.suggest(trial)
        except Exception as error:
            trial.set_user_attr(FAILURE, f"{type(error).__name__}: {error}")
            self.ended(self.study.tell(trial, state=TrialState.FAIL))
            return None
        return trial

    def ended(self, trial: FrozenTrial) -> None:
        self._progress.count(trial)
        self._progress.check()
        self._is_stopped = self._is_stopped or self._stop(self.study)

    def _count(self, states: tuple[TrialState, ...]) -> int:
        return len(self.study.get_trials(deepcopy=False, states=states))
