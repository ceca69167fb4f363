"""An objective that trains nothing, for what is measured about workers and storages."""

from __future__ import annotations

from collections.abc import Callable
import math
import os
from pathlib import Path
import time

from optuna.trial import Trial
from optuna.trial import TrialState
import torch

from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import Setting


# User attributes: the process of a trial, and its memory at the trial's end.
PROCESS, MEMORY_MB = "process", "memory_mb"
# As many numbers as a training leaves.
N_ATTRIBUTES = 30


class StandIn:
    """To workers an objective: takes a while, writes what a training writes, and reads what one
    reads.

    Args:
        seconds:
            That a trial sleeps.
    """

    device = torch.device("cpu")

    def __init__(self, seconds: float) -> None:
        self.space = SearchSpace()
        self._seconds = seconds

    def prepare(self) -> None:
        """There is nothing to load."""

    def release(self) -> None:
        """Nor to let go of."""

    def move(self, device: torch.device, on_step: Callable[[], None]) -> None:
        """Nor to move."""

    def __call__(self, trial: Trial) -> float:
        setting = self.space.suggest(trial)
        time.sleep(self._seconds)
        trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        write_attributes(trial)
        trial.set_user_attr(PROCESS, os.getpid())
        trial.set_user_attr(MEMORY_MB, memory_mb())
        return value_of(setting)


def write_attributes(trial: Trial) -> None:
    for i in range(N_ATTRIBUTES):
        trial.set_user_attr(f"measure {i}", math.sin(trial.number + i))


def value_of(setting: Setting) -> float:
    """A hill over balance, temperature and batch size."""
    balance, temperature = math.log2(setting["balance"]), math.log10(setting["temperature"])
    return -((balance - 2.0) ** 2) / 9 - (temperature + 0.7) ** 2 - setting["batch_size"] / 512


def memory_mb() -> float:
    """What this process has in memory, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
