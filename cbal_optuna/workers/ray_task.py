"""What a Ray task does: a trial, in a process that Ray uses for one after the other."""

from __future__ import annotations

from functools import lru_cache
import pickle
import signal
import sys
from typing import Any
import warnings

import optuna
from optuna.storages import BaseStorage

from cbal_optuna.interruption import Interruption
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.workers.places import Place
from cbal_optuna.workers.process import cached_storage
from cbal_optuna.workers.process import evaluate_task
from cbal_optuna.workers.process import Task


def run_task(objective: tuple[Any], place: Place, url: str, task: Task) -> None:
    """Evaluate a trial, unless that has been done: Ray may have run the task before, on a machine
    that then died.

    Args:
        objective:
            A reference to its pickle; in a tuple Ray leaves it as it is.
        place:
            Where to train.
        url:
            Of the storage.
        task:
            The trial.
    """
    prepared, storage = _prepared(objective[0], place, url)
    if not storage.get_trial(task.trial_id).state.is_finished():
        evaluate_task(task, prepared, storage)


@lru_cache(maxsize=1)
def _prepared(reference: Any, place: Place, url: str) -> tuple[Objective[Outcome], BaseStorage]:
    """Once for each process."""
    import ray

    warnings.showwarning = lambda message, *rest, **more: print(
        f"warning: {message}", file=sys.stderr
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objective: Objective[Outcome] = pickle.loads(ray.get(reference))
    place.take()
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
