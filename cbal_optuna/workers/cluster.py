"""Workers whose trials are tasks of a Ray cluster, on this machine or on many."""

from __future__ import annotations

import atexit
from contextlib import suppress
from importlib.util import find_spec
import multiprocessing
import os
import socket
from typing import Any

from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.storage import sqlite_file
from cbal_optuna.storage import Storage
from cbal_optuna.workers.pool import NoWorkerError
from cbal_optuna.workers.pool import WorkerPool
from cbal_optuna.workers.process import Task
from cbal_optuna.workers.ray_driver import Cancel
from cbal_optuna.workers.ray_driver import Done
from cbal_optuna.workers.ray_driver import drive
from cbal_optuna.workers.ray_driver import Give
from cbal_optuna.workers.ray_driver import LOCAL
from cbal_optuna.workers.ray_driver import Prepare
from cbal_optuna.workers.worker import AnyWorker
from cbal_optuna.workers.worker import ctrl_c_ignored
from cbal_optuna.workers.worker import DeadWorkerError
from cbal_optuna.workers.worker import manner_of_end


# Ray itself would try a port that refuses for a quarter of an hour.
_PORT_TIMEOUT_SECONDS = 5.0
# How long it may take to leave a cluster, which one that is lost never grants.
_CLOSING_SECONDS = 30.0


def connect(address: str, storage: str) -> Cluster:
    """Connect to a cluster, by a process of its own: a connection to Ray that this process may
    have is neither used nor closed.

    Args:
        address:
            Of the cluster, as for ``ray.init``, or :data:`LOCAL`.
        storage:
            The URL of a storage.

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
    _check_port(address)
    return Cluster(address, storage if file is None else f"sqlite:///{file.resolve()}")


class Cluster:
    """A cluster as the parent of workers sees it.

    Args:
        address:
            As for :func:`connect`.
        url:
            By which its machines reach the storage.

    Attributes:
        under_way:
            The numbers of the workers that have been given a trial.

    Raises:
        ValueError: It does not answer.
        NoWorkerError: The process that was to connect to it is dead.
    """

    def __init__(self, address: str, url: str) -> None:
        self.address = address
        self.url = url
        self.under_way = set[int]()
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=drive, args=(other_end, address), daemon=True)
        with ctrl_c_ignored():
            self._process.start()
        # Else this process would keep it open, and the other's death go unnoticed.
        other_end.close()
        # Before multiprocessing waits for its processes.
        atexit.register(self.close)
        try:
            complaint = self._receive()
        except BaseException:
            self._process.kill()
            self.close()
            raise
        if complaint is not None:
            self.close()
            raise ValueError(_no_answer(address, complaint))

    def order(self, order: Prepare | Give | Cancel) -> None:
        # If the process is dead, who waits for an answer is told.
        with suppress(ConnectionError):
            self._connection.send(order)
        if isinstance(order, Give):
            self.under_way.add(order.number)

    def prepare(self, order: Prepare) -> None:
        """See :class:`~cbal_optuna.workers.ray_driver.Prepare`.

        Raises:
            ValueError: The cluster has no place for the workers.
            NoWorkerError: It is lost.
        """
        self.order(order)
        complaint = self._receive()
        if complaint is not None:
            raise ValueError(complaint)

    def news(self, seconds: float | None) -> Done | None:
        """The next of those under way, after waiting so long at most, or for ever.

        Raises:
            NoWorkerError: The cluster is lost.
        """
        if not self._connection.poll(seconds):
            return None
        done: Done = self._receive()
        self.under_way.remove(done.number)
        return done

    def close(self) -> None:
        """Leave it; what is under way ends."""
        atexit.unregister(self.close)
        self._connection.close()
        try:
            self._process.join(_CLOSING_SECONDS)
        finally:
            # A signal does not wait.
            self._process.kill()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise NoWorkerError(
                f"the Ray cluster {self.address!r} is lost (the process that was connected to it "
                f"{manner_of_end(self._process.exitcode)}); what is stored is kept, and the same "
                "command goes on with it"
            ) from error


class RayWorkers(WorkerPool):
    """Ray tasks, one for each trial, so many at a time.

    When a process or a node dies, Ray runs its task again on another, where the trial goes on:
    from its last checkpoint, if both reach the folder of checkpoints. What workers print comes to
    the terminal.

    Args:
        objective:
            What they evaluate; it finds its images and weights under the same paths on all nodes,
            which have this package installed.
        storage:
            Of the studies.
        n_workers:
            How many at a time.
        cluster:
            What :func:`connect` gives for that storage; it is closed with the ``with`` block.
        device:
            ``"cpu"``, or any other name for the GPUs of the cluster, if it has some. Workers that
            are more than these share them.

    Raises:
        ValueError: The cluster has no CPU.
        NoWorkerError: It is lost.
    """

    def __init__(
        self,
        objective: Objective[Outcome],
        storage: Storage,
        n_workers: int,
        cluster: Cluster,
        *,
        device: str = "auto",
    ) -> None:
        super().__init__(storage, n_workers)
        from ray import cloudpickle

        cluster.prepare(Prepare(cloudpickle.dumps(objective), cluster.url, n_workers, device))
        objective.release()
        self._cluster = cluster

    def _new_workers(self) -> list[RayWorker]:
        return [RayWorker(number, self._cluster) for number in range(len(self))]

    def _with_news(self, seconds: float) -> list[AnyWorker]:
        done = self._cluster.news(seconds)
        for worker in self._workers:
            if isinstance(worker, RayWorker) and done is not None and worker.number == done.number:
                worker.failure = done.failure
                return [worker]
        return []

    def _close(self) -> None:
        self._cluster.close()


class RayWorker:
    """A worker whose trials are tasks.

    Args:
        number:
            By which people know it.
        cluster:
            That runs them.

    Attributes:
        failure:
            Of what it has died, before :meth:`hear`.
    """

    def __init__(self, number: int, cluster: Cluster) -> None:
        self.number = number
        self.trial_id: int | None = None
        self.n_deaths = 0
        self.failure: str | None = None
        self._cluster = cluster

    @property
    def is_idle(self) -> bool:
        return self.trial_id is None

    def start(self) -> None:
        self.failure = None

    def give(self, task: Task) -> None:
        self.trial_id = task.trial_id
        self._cluster.order(Give(self.number, task))

    def hear(self) -> None:
        if self.failure is not None:
            self.n_deaths += 1
            raise DeadWorkerError(f"died ({self.failure})")

    def finished(self) -> None:
        self.trial_id, self.n_deaths = None, 0

    def ask_to_end(self) -> None:
        self._cluster.order(Cancel(self.number, force=False))

    def join(self) -> None:
        # A cluster that is lost has no more to say.
        with suppress(NoWorkerError):
            while self.number in self._cluster.under_way:
                self._cluster.news(None)

    def kill(self) -> None:
        self._cluster.order(Cancel(self.number, force=True))


def _check_port(address: str) -> None:
    """ValueError if nobody listens there."""
    named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, _, port = named.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PORT_TIMEOUT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ValueError(_no_answer(address, str(error))) from error


def _no_answer(address: str, reason: str) -> str:
    return f"`ray` is {address!r}, where no cluster answers: {reason}"
