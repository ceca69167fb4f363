"""Given settings, each trained with given seeds, by workers."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from tqdm import tqdm

from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import Setting
from cbal_optuna.storage import Storage
from cbal_optuna.stored_trials import ask
from cbal_optuna.stored_trials import FAILURE
from cbal_optuna.stored_trials import training_of
from cbal_optuna.stored_trials import was_given_up
from cbal_optuna.study import FailingTrialsError
from cbal_optuna.workers.pool import WorkerPool
from cbal_optuna.workers.process import Evaluation


Training = tuple[Setting, int]

_BEGUN = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)


def train_with(
    workers: WorkerPool,
    study: Study,
    space: SearchSpace,
    wanted: Sequence[Training],
    evaluation: Evaluation,
    title: str,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Train each setting with each seed once, here or on another machine that shares the study,
    unless it is stored already.

    Args:
        workers:
            Of the objective.
        study:
            Where each training becomes a trial, its seed being a user attribute.
        space:
            Of the settings.
        wanted:
            Settings, that is their searched parts, and seeds.
        evaluation:
            Does the training of a trial.
        title:
            Of the progress bar.
        between:
            Called twice a second and more; what it raises ends the run.

    Raises:
        FailingTrialsError: A training failed.
        NoWorkerError: All workers died, again and again, or their cluster is lost.
    """
    with tqdm(total=len(wanted), desc=title) as bar:
        workers.run(_Trainings(study, workers.storage, space, wanted, evaluation, bar), between)


class _Trainings:
    """What the workers are given: see :class:`~cbal_optuna.workers.TrialSource`."""

    def __init__(
        self,
        study: Study,
        storage: Storage,
        space: SearchSpace,
        wanted: Sequence[Training],
        evaluation: Evaluation,
        bar: tqdm,
    ) -> None:
        self.study = study
        self.evaluation = evaluation
        self._storage = storage
        self._space = space
        self._wanted = wanted
        self._bar = bar

    def is_over(self) -> bool:
        done = [training_of(t) for t in self._trials(TrialState.COMPLETE)]
        n_done = sum(training in done for training in self._wanted)
        self._bar.update(n_done - self._bar.n)
        return n_done == len(self._wanted)

    def next(self) -> Trial | None:
        """The first that nobody has begun.

        All who share the study queue what they miss. If two have queued the same, the one with
        the lower number counts, and the other is withdrawn.
        """
        begun = [training_of(t) for t in self._trials(*_BEGUN)]
        missing = [training for training in self._wanted if training not in begun]
        if missing:
            setting, seed = missing[0]
            self.study.enqueue_trial(setting, user_attrs={"seed": seed})
        if not self._trials(TrialState.WAITING):
            return None
        trial = ask(self.study)
        earlier = [training_of(t) for t in self._trials(*_BEGUN) if t.number < trial.number]
        own = training_of(self._storage.get_trial(trial._trial_id))
        if own not in self._wanted or own in earlier:
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        self._space.suggest(trial)
        return trial

    def ended(self, trial: FrozenTrial) -> None:
        if trial.state == TrialState.FAIL and not was_given_up(trial):
            reason = trial.user_attrs.get(FAILURE, "no value")
            raise FailingTrialsError(f"a training with a fresh seed failed: {reason}")

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)
