"""Workers that evaluate the trials of studies: what they have in common, and processes of this
machine."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
import pickle
import sys
from tempfile import TemporaryDirectory
import time
from types import TracebackType
from typing import Protocol

from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import torch
from tqdm import tqdm

from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.storage import HEARTBEAT_SECONDS
from cbal_optuna.storage import Storage
from cbal_optuna.stored_trials import retry
from cbal_optuna.stored_trials import retry_stale_trials
from cbal_optuna.stored_trials import was_given_up
from cbal_optuna.workers.places import places
from cbal_optuna.workers.process import Evaluation
from cbal_optuna.workers.process import Task
from cbal_optuna.workers.worker import AnyWorker
from cbal_optuna.workers.worker import DeadWorkerError
from cbal_optuna.workers.worker import Worker


# How often signals are looked for, and the trials of other machines.
_POLL_SECONDS = 0.5
# A worker that has died so often since it last finished a trial is not started again.
_MAX_DEATHS = 4


class NoWorkerError(RuntimeError):
    """All workers died, again and again, or their cluster is lost."""


class TrialSource(Protocol):
    """Trials of a study that are to be evaluated."""

    study: Study

    @property
    def evaluation(self) -> Evaluation:
        """How; it can be pickled."""

    def is_over(self) -> bool:
        """Whether no more will be begun."""

    def next(self) -> Trial | None:
        """One that runs now, its parameters being stored; None if at the moment there is none."""

    def ended(self, trial: FrozenTrial) -> None:
        """Called with each that a worker has finished; what it raises ends the run."""


class WorkerPool(ABC):
    """Workers that evaluate the trials of studies.

    They are started when there is something to do, and end with the ``with`` block, trials under
    way at their next training step. A worker that dies is replaced, and its trial is evaluated
    again.

    Args:
        storage:
            Of the studies.
        n_workers:
            How many.
    """

    def __init__(self, storage: Storage, n_workers: int) -> None:
        self.storage = storage
        self._n_workers = n_workers
        self._workers: list[AnyWorker] = []
        self._next_heartbeat = 0.0

    def __len__(self) -> int:
        return self._n_workers

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for worker in self._workers:
                worker.ask_to_end()
            for worker in self._workers:
                worker.join()
        finally:
            # A second signal does not wait.
            for worker in self._workers:
                worker.kill()
            self._close()

    def run(self, source: TrialSource, between: Callable[[], None] = lambda: None) -> None:
        """Evaluate trials until there are no more.

        Args:
            source:
                The trials.
            between:
                Called twice a second and more; what it raises ends the run.

        Raises:
            NoWorkerError: All workers died, again and again, or their cluster is lost.
        """
        while True:
            between()
            self._keep_trials_alive(source.study)
            if not source.is_over():
                self._start()
                self._give_trials(source)
            elif all(worker.trial_id is None for worker in self._workers):
                return
            for worker in self._with_news(_POLL_SECONDS):
                self._hear(worker, source)

    @abstractmethod
    def _new_workers(self) -> Sequence[AnyWorker]:
        """All of them."""

    @abstractmethod
    def _with_news(self, seconds: float) -> Sequence[AnyWorker]:
        """Those that have something to say, after waiting so long for the first at most."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of what all workers share."""

    def _start(self) -> None:
        if not self._workers:
            self._workers = list(self._new_workers())

    def _give_trials(self, source: TrialSource) -> None:
        for worker in self._workers:
            if worker.is_idle:
                trial = source.next()
                if trial is None:
                    return
                self.storage.record_heartbeat(trial._trial_id)
                worker.give(Task(source.study.study_name, trial._trial_id, source.evaluation))

    def _keep_trials_alive(self, study: Study) -> None:
        """Give signs of life in the name of the workers, and see which others have given none."""
        if time.monotonic() < self._next_heartbeat:
            return
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        for worker in self._workers:
            if worker.trial_id is not None:
                self.storage.record_heartbeat(worker.trial_id)
        retry_stale_trials(study)

    def _hear(self, worker: AnyWorker, source: TrialSource) -> None:
        try:
            line = worker.hear()
        except DeadWorkerError as error:
            self._replace(worker, source, str(error))
            return
        if line is not None:
            _say(worker, line)
        elif worker.trial_id is not None:
            trial = self.storage.get_trial(worker.trial_id)
            worker.finished()
            source.ended(trial)

    def _replace(self, worker: AnyWorker, source: TrialSource, manner: str) -> None:
        """Start a worker again that has died, and queue its trial."""
        outlook = "; it is started again"
        if worker.n_deaths == _MAX_DEATHS:
            outlook = ", as before; it is not started again"
            self._workers.remove(worker)
        _say(worker, manner + outlook)
        if worker.trial_id is not None:
            trial = self.storage.get_trial(worker.trial_id)
            worker.trial_id = None
            is_open = trial.state in (TrialState.RUNNING, TrialState.FAIL)
            if is_open and not was_given_up(trial):
                retry(source.study, trial, f"its worker {manner}")
            else:
                source.ended(trial)
        if not self._workers:
            raise NoWorkerError(f"no worker is left, the last {manner}")
        if worker in self._workers:
            worker.start()


class Workers(WorkerPool):
    """Processes of this machine.

    Args:
        objective:
            What they evaluate. It should be prepared, so that its cache is there for all of them;
            this process lets go of what it holds itself.
        storage:
            Of the studies.
        n_workers:
            How many.

    Raises:
        ValueError: The objective cannot be pickled.
    """

    def __init__(self, objective: Objective[Outcome], storage: Storage, n_workers: int) -> None:
        super().__init__(storage, n_workers)
        try:
            pickled = pickle.dumps(objective)
        except Exception as error:
            raise ValueError(
                f"`workers` is {n_workers}; they need an objective, data set included, that can "
                f"be pickled: {error}"
            ) from error
        objective.release()
        # A pipe would have this process wait until the workers have loaded torch.
        self._folder = TemporaryDirectory(prefix="cbal-")
        self._file = Path(self._folder.name) / "objective.pickle"
        self._file.write_bytes(pickled)
        self._places = places(
            objective.device,
            n_workers,
            n_devices=torch.cuda.device_count(),
            n_threads=torch.get_num_threads(),
        )

    def _new_workers(self) -> list[Worker]:
        return [
            Worker(number, place, self._file, self.storage.url)
            for number, place in enumerate(self._places)
        ]

    def _with_news(self, seconds: float) -> list[AnyWorker]:
        workers = {w.connection: w for w in self._workers}  # type: ignore[attr-defined]
        return [workers[c] for c in wait(list(workers), seconds)]

    def _close(self) -> None:
        self._folder.cleanup()


def _say(worker: AnyWorker, line: str) -> None:
    """Above the progress bar."""
    tqdm.write(f"worker {worker.number}: {line}", file=sys.stderr)
