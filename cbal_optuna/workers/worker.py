"""A worker as its parent sees it, and a process that is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
import os
from pathlib import Path
import signal
from typing import Protocol

from cbal_optuna.workers.places import Place
from cbal_optuna.workers.process import READY
from cbal_optuna.workers.process import Task
from cbal_optuna.workers.process import work


class DeadWorkerError(RuntimeError):
    """A worker has ended by itself; says how."""


class AnyWorker(Protocol):
    """Evaluates trials, and is started again when it has died.

    Attributes:
        number:
            By which people know it.
        trial_id:
            Of the trial that it has been given; None without.
        n_deaths:
            How often it has died since it last finished a trial.
    """

    number: int
    trial_id: int | None
    n_deaths: int

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a trial."""

    def start(self) -> None:
        """Again, after it has died."""

    def give(self, task: Task) -> None:
        """A trial, while it is idle."""

    def hear(self) -> str | None:
        """A line for people, or None when it is idle: at first, and when it has finished a trial.

        Raises:
            DeadWorkerError: It has died.
        """

    def finished(self) -> None:
        """Called when it has finished a trial."""

    def ask_to_end(self) -> None:
        """Now if it is idle, else at its next training step."""

    def join(self) -> None:
        """Wait for its end."""

    def kill(self) -> None:
        """At once."""


class Worker:
    """A process that is a worker.

    Args:
        number:
            By which people know it.
        place:
            Where it trains.
        objective:
            The file of what it evaluates, pickled.
        url:
            Of the storage.

    Attributes:
        connection:
            To wait for, before :meth:`hear`.
    """

    connection: Connection
    _process: BaseProcess

    def __init__(self, number: int, place: Place, objective: Path, url: str) -> None:
        self.number = number
        self.trial_id: int | None = None
        self.n_deaths = 0
        self._place = place
        self._arguments = (objective, place, url)
        self.start()

    @property
    def is_idle(self) -> bool:
        return self._is_ready and self.trial_id is None

    def start(self) -> None:
        """Spawned, since CUDA does not survive a fork."""
        context = multiprocessing.get_context("spawn")
        self._is_ready = False
        self.connection, other_end = context.Pipe()
        self._process = context.Process(
            target=work, args=(other_end, *self._arguments), daemon=True
        )
        with ctrl_c_ignored(), _threads_in_environment(self._place.n_threads):
            self._process.start()
        # Else this process would keep it open, and the worker's death go unnoticed.
        other_end.close()

    def give(self, task: Task) -> None:
        self.trial_id = task.trial_id
        # If it is dead, :meth:`hear` says so.
        with suppress(ConnectionError):
            self.connection.send(task)

    def hear(self) -> str | None:
        try:
            message: str | None = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            self.n_deaths += 1
            raise DeadWorkerError(manner_of_end(self._process.exitcode)) from error
        if message is READY:
            self._is_ready = True
        return message

    def finished(self) -> None:
        self.trial_id, self.n_deaths = None, 0

    def ask_to_end(self) -> None:
        self.connection.close()
        if not self._is_ready:
            self.kill()

    def join(self) -> None:
        self._process.join()

    def kill(self) -> None:
        self._process.kill()


def manner_of_end(exit_code: int | None) -> str:
    assert exit_code is not None
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with status {exit_code}"


@contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """A terminal sends it to all processes; the parent alone is to act on it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _threads_in_environment(n_threads: int) -> Iterator[None]:
    """Libraries look there when they are loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
