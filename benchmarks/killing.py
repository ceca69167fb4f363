"""A worker that is killed again and again."""

from __future__ import annotations

from dataclasses import dataclass
import multiprocessing
import os
from pathlib import Path
import random
import signal
from threading import Thread
import time

from counted_digits import CountedDigits
from counted_digits import is_retried_once
from counted_digits import of_state
from counted_digits import opened
from counted_digits import path_of
from counted_digits import STUDY
import optuna
from optuna.trial import TrialState

from cbal_optuna.storage import open_storage
from cbal_optuna.study import run_trials
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers import Workers


# A trial is retried so often, and a worker that dies once more without finishing one is given up.
_MAX_DEATHS = 3
# A process loads its modules for so long, and some more.
_START_SECONDS = 6.0


@dataclass(frozen=True)
class Killed:
    """What became of a study whose worker was killed again and again.

    Attributes:
        kills:
            How many.
        complete:
            Finished trials.
        different_points:
            Of those.
        retried_once:
            Whether each killed trial was retried once, at its point.
        same_path:
            Whether points and values are, one after the other, those of a study without kills.
        steps, steps_needed:
            Of all trainings, those that were done again included, and without kills.
    """

    kills: int
    complete: int
    different_points: int
    retried_once: bool
    same_path: bool
    steps: int
    steps_needed: int


def killed_workers(url: str, folder: Path, n_kills: int, n_trials: int, seed: int) -> Killed:
    """A study with one worker, which is killed at random moments: in training, evaluation and
    storing, one time in ten while it starts."""
    study, objective = opened(url, folder)
    killer = Killer(url, objective, n_kills, seed)
    with Workers(objective, open_storage(url), 1) as workers:
        killer.start()
        try:
            run_trials_with(workers, study, objective, n_trials, between=killer.check)
        finally:
            killer.over = True
    killer.join()
    n_steps = objective.n_steps_done
    alone, _ = opened(f"sqlite:///{folder}/alone.db", folder)
    run_trials(alone, objective, n_trials)
    complete = of_state(study, TrialState.COMPLETE)
    return Killed(
        kills=killer.n_kills,
        complete=len(complete),
        different_points=len({str(trial.params) for trial in complete}),
        retried_once=is_retried_once(study),
        same_path=path_of(study) == path_of(alone),
        steps=n_steps,
        steps_needed=objective.n_steps_of(complete),
    )


class Killer(Thread):
    """Kills the one child process of this one at random moments."""

    def __init__(self, url: str, objective: CountedDigits, n: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._study = optuna.load_study(study_name=STUDY, storage=url)
        self._objective = objective
        self._n = n
        self._random = random.Random(seed)
        self._error: Exception | None = None
        # How many trials were complete at each death.
        self._deaths: list[int] = []
        self.over = False

    @property
    def n_kills(self) -> int:
        return len(self._deaths)

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            while self.n_kills < self._n and not self.over:
                self._wait()
                self._kill()
        except Exception as error:
            self._error = error

    def _wait(self) -> None:
        if self._random.random() < 0.1:
            time.sleep(self._random.uniform(0.0, _START_SECONDS))
            return
        # A trial has some 470 or 940 steps.
        wanted = self._objective.n_steps_done + self._random.randrange(1, 900)
        while self._objective.n_steps_done < wanted and not self.over:
            time.sleep(0.001)
        time.sleep(self._random.uniform(0.0, 0.02))

    def _kill(self) -> None:
        n_complete = len(of_state(self._study, TrialState.COMPLETE))
        for worker in multiprocessing.active_children():
            if self._deaths.count(n_complete) < _MAX_DEATHS and worker.pid is not None:
                self._deaths.append(n_complete)
                os.kill(worker.pid, signal.SIGKILL)
