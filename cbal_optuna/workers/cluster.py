"""Ray tasks that evaluate the trials of studies, on this machine or on those of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
import math
import pickle
import signal
import sys
import time
from typing import Any
import warnings

import optuna
from optuna.storages import BaseStorage
import torch

from cbal_optuna.interruption import Interruption
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.storage import sqlite_file
from cbal_optuna.storage import Storage
from cbal_optuna.workers.places import Place
from cbal_optuna.workers.pool import WorkerPool
from cbal_optuna.workers.process import cached_storage
from cbal_optuna.workers.process import evaluate_task
from cbal_optuna.workers.process import Task
from cbal_optuna.workers.worker import AnyWorker
from cbal_optuna.workers.worker import DeadWorkerError


#: Stands for a cluster of this machine, which ends with the workers.
LOCAL = "local"
# How often Ray runs a task again whose process or node has died.
_MAX_RETRIES = 3


def connect(address: str, storage: str) -> str:
    """Connect this process to a cluster, if it is not yet.

    Args:
        address:
            Of the cluster, as Ray names it.
        storage:
            The URL of a storage.

    Returns:
        The URL by which the cluster's machines reach it.

    Raises:
        ValueError: Ray is not installed, no cluster answers, or its machines do not reach the
            storage.
    """
    if find_spec("ray") is None:
        raise ValueError(
            f"`ray` is {address!r}; it needs the package ray, which is not installed: pip "
            'install ".[ray]".'
        )
    file = sqlite_file(storage)
    if file is not None and address != LOCAL:
        raise ValueError(
            f"`ray` is {address!r} and `storage` the sqlite file {file}; the machines of a "
            "cluster share a database server, or the proxy of a file (serve-storage)."
        )
    import ray

    if not ray.is_initialized():
        options = {"include_dashboard": False} if address == LOCAL else {}
        try:
            ray.init(address, logging_level="warning", **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"`ray` is {address!r}, where no cluster answers: {reason}"
            ) from error
    return storage if file is None else f"sqlite:///{file.resolve()}"


class RayWorkers(WorkerPool):
    """Ray tasks, one for each trial, so many at a time.

    When a process or a node dies, Ray runs its task again on another, where the trial goes on:
    from its last checkpoint, if both reach the folder of checkpoints. What workers print comes to
    this process.

    Args:
        objective:
            What they evaluate; it finds its images and weights under the same paths on all nodes,
            which have this package installed.
        storage:
            Of the studies; all nodes reach it.
        n_workers:
            How many at a time.
        address:
            Of the cluster, as for ``ray.init``, or :data:`LOCAL`.
        device:
            ``"cpu"``, or any other name for the GPUs of the cluster, if it has some. Workers that
            are more than these share them.

    Raises:
        ValueError: Ray is not installed, no cluster answers there, it has no CPU, or its nodes do
            not reach the storage.
    """

    def __init__(
        self,
        objective: Objective[Outcome],
        storage: Storage,
        n_workers: int,
        address: str,
        *,
        device: str = "auto",
    ) -> None:
        super().__init__(storage, n_workers)
        url = connect(address, storage.url)
        import ray

        place, n_cpus, n_gpus = _place_among(ray.nodes(), n_workers, device)
        run = ray.remote(max_retries=_MAX_RETRIES, num_cpus=n_cpus, num_gpus=n_gpus)(_run)
        # As bytes: arrays that Ray stores by itself cannot be written. In a tuple it leaves the
        # reference as it is.
        self._arguments = ((ray.put(ray.cloudpickle.dumps(objective)),), place, url)
        objective.release()
        self._remote = run

    def _new_workers(self) -> list[RayWorker]:
        return [RayWorker(i, self._remote, self._arguments) for i in range(len(self))]

    def _with_news(self, seconds: float) -> list[AnyWorker]:
        import ray

        workers = {w.reference: w for w in self._workers if isinstance(w, RayWorker)}
        workers.pop(None, None)
        if not workers:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(workers), timeout=seconds)
        return [workers[reference] for reference in ready]

    def _close(self) -> None:
        import ray

        ray.shutdown()


class RayWorker:
    """A worker whose trials are tasks.

    Args:
        number:
            By which people know it.
        remote:
            Ray's function that evaluates a trial.
        arguments:
            Its first ones; the task is the last.

    Attributes:
        reference:
            Of the task under way.
    """

    def __init__(self, number: int, remote: Any, arguments: tuple[Any, ...]) -> None:
        self.number = number
        self.trial_id: int | None = None
        self.n_deaths = 0
        self.reference: Any = None
        self._remote = remote
        self._arguments = arguments

    @property
    def is_idle(self) -> bool:
        return self.reference is None

    def start(self) -> None:
        self.reference = None

    def give(self, task: Task) -> None:
        self.trial_id = task.trial_id
        # By this name Ray marks what it prints.
        remote = self._remote.options(name=f"worker {self.number}")
        self.reference = remote.remote(*self._arguments, task)

    def hear(self) -> None:
        import ray

        try:
            ray.get(self.reference)
        except ray.exceptions.RayError as error:
            self.n_deaths += 1
            raise DeadWorkerError(f"died ({_reason(error)})") from error

    def finished(self) -> None:
        self.trial_id, self.reference, self.n_deaths = None, None, 0

    def ask_to_end(self) -> None:
        self._cancel(force=False)

    def join(self) -> None:
        import ray

        if self.reference is not None:
            ray.wait([self.reference])

    def kill(self) -> None:
        self._cancel(force=True)

    def _cancel(self, *, force: bool) -> None:
        import ray

        if self.reference is not None:
            ray.cancel(self.reference, force=force)


def _place_among(
    nodes: Sequence[dict[str, Any]], n_workers: int, device: str
) -> tuple[Place, float, float]:
    """Where each worker trains, and the CPUs and GPUs that Ray keeps for it; ValueError if there
    are none."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(found.get("CPU", 0)) for found in resources]
    if not any(cpus):
        raise ValueError(
            "`ray` names a cluster that has no CPU at the moment; it should have a node with one."
        )
    gpus = [int(found.get("GPU", 0)) for found in resources]
    n_cpus, n_gpus = _share(cpus, n_workers), 0.0
    if device != "cpu" and any(gpus):
        # A training has no use for a second one.
        n_gpus = min(1.0, _share(gpus, n_workers))
    place = Place(
        torch.device("cuda" if n_gpus else "cpu"), n_gpus or 1.0, n_threads=max(1, int(n_cpus))
    )
    return place, n_cpus, n_gpus


def _share(counts: Sequence[int], n_workers: int) -> float:
    """The most that each worker can have, all on one node: a whole number, or a fraction of 1."""
    fitting = [k for k in range(1, max(counts) + 1) if sum(n // k for n in counts) >= n_workers]
    return float(fitting[-1]) if fitting else 1 / math.ceil(n_workers / sum(counts))


def _run(objective: tuple[Any], place: Place, url: str, task: Task) -> None:
    """What a task does. Ray may have run it before on a machine that then died."""
    prepared, storage = _prepared(objective[0], place, url)
    if not storage.get_trial(task.trial_id).state.is_finished():
        evaluate_task(task, prepared, storage)


@lru_cache(maxsize=1)
def _prepared(reference: Any, place: Place, url: str) -> tuple[Objective[Outcome], BaseStorage]:
    """Once for each process, which Ray uses for one task after the other."""
    import ray

    warnings.showwarning = lambda message, *rest, **more: print(
        f"warning: {message}", file=sys.stderr
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    place.take()
    objective: Objective[Outcome] = pickle.loads(ray.get(reference))
    objective.move(place.device, on_step=_cancellation().check)
    objective.prepare()
    return objective, cached_storage(url)


def _cancellation() -> Interruption:
    """Ray cancels by what looks like Ctrl-C; SIGTERM remains its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    terminate = signal.getsignal(signal.SIGTERM)
    interruption = Interruption()
    signal.signal(signal.SIGTERM, terminate)
    interruption.defer()
    return interruption


def _reason(error: Exception) -> str:
    """In one line: of a task's own error the last of its traceback."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    is_own = hasattr(error, "cause")
    return (lines[-1] if is_own else lines[0]) if lines else type(error).__name__
