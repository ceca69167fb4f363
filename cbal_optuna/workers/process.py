"""What a worker process does: the trials that it is given, one after the other.

The parent asks the sampler, and writes the parameters of a trial before it gives it away. The
worker trains, and stores what comes out by itself, so that a parent that is killed takes no result
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
import pickle
import signal
import sys
from typing import NamedTuple
import warnings

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.storages import get_storage
from optuna.trial import Trial

from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.storage import open_storage
from cbal_optuna.stored_trials import evaluate
from cbal_optuna.workers.places import Place


Evaluation = Callable[[Objective[Outcome], Trial], float]

# What a worker says when it wants a trial; all else that it says is a line for people.
READY = None


class Task(NamedTuple):
    """A trial to be evaluated, its parameters being stored, and how."""

    study_name: str
    trial_id: int
    evaluation: Evaluation


def work(connection: Connection, objective: Path, place: Place, url: str) -> None:
    """Evaluate trials until the other end of the connection is closed, by the parent or by its
    death; a trial under way then ends at its next training step.

    Args:
        connection:
            To the parent: gives :class:`Task`, takes :data:`READY` or a line.
        objective:
            The file of what to evaluate, pickled.
        place:
            Where to train.
        url:
            Of the storage.
    """
    interruption = Interruption()
    interruption.defer()

    def check() -> None:
        interruption.check()
        if connection.poll():
            # During a trial there is nothing to hear but the end.
            raise Interrupted(signal.SIGTERM)

    def say(line: str) -> None:
        with suppress(ConnectionError):
            connection.send(line)

    warnings.showwarning = lambda message, *rest, **more: say(f"warning: {message}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = cached_storage(url, while_waiting=check)
        _work(connection, pickle.loads(objective.read_bytes()), check, place, storage)
    except Interrupted as interrupted:
        sys.exit(128 + interrupted.number)
    except Exception as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(1)


def cached_storage(url: str, *, while_waiting: Callable[[], None] = lambda: None) -> BaseStorage:
    """As :func:`~cbal_optuna.storage.open_storage`, but each finished trial is read once, however
    many trials the process evaluates."""
    return get_storage(open_storage(url, while_waiting=while_waiting))


def _work(
    connection: Connection,
    objective: Objective[Outcome],
    check: Callable[[], None],
    place: Place,
    storage: BaseStorage,
) -> None:
    place.take()
    objective.move(place.device, on_step=check)
    objective.prepare()
    while (task := _next_task(connection)) is not None:
        evaluate_task(task, objective, storage)


def _next_task(connection: Connection) -> Task | None:
    """None if the parent wants no more, or is dead."""
    try:
        connection.send(READY)
        task: Task = connection.recv()
    except (EOFError, ConnectionError):
        return None
    return task


def evaluate_task(task: Task, objective: Objective[Outcome], storage: BaseStorage) -> None:
    """What was given to a worker."""
    # The parameters are there, so that the sampler has nothing to do.
    study = optuna.load_study(
        study_name=task.study_name, storage=storage, sampler=RandomSampler(), pruner=NopPruner()
    )
    evaluate(study, Trial(study, task.trial_id), partial(task.evaluation, objective))
