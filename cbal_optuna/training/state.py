"""What a training changes from step to step: all that it takes to go on with it."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from dataclasses import field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from cbal_optuna.training.checkpoint import Checkpoint
from cbal_optuna.training.micro_batches import MicroBatches
from cbal_optuna.training.monitor import LossMonitor
from cbal_optuna.training.one_process import OneProcess
from cbal_optuna.training.phases import PhaseClock
from cbal_optuna.training.random_state import random_state
from cbal_optuna.training.random_state import set_random_state


@dataclass
class TrainingState:
    """A training between two steps.

    The batches that were drawn are not in it: they are drawn again, which takes a small part of
    the time of their steps and gives the same ones.

    Args:
        model, loss, optimizer, micro_batches, clock, monitor:
            Of this training.
        device:
            Where it happens.
        step:
            Steps done.
        values:
            Of the evaluations done.
        written:
            The step after which the state was written last.
    """

    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    micro_batches: MicroBatches
    clock: PhaseClock
    monitor: LossMonitor
    device: torch.device
    step: int = 0
    written: int = 0
    values: list[float] = field(default_factory=list)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from what was written, if there is any that fits."""
        saved = checkpoint.read()
        if saved is None:
            return
        before = deepcopy(self.state_dict())
        try:
            self.load_state_dict(saved)
        # torch and its optimizers raise errors of many kinds.
        except Exception:
            self.load_state_dict(before)
            checkpoint.reject("does not fit the training")
        else:
            self.written = self.step
            checkpoint.is_stuck = True

    def share(self, ranks: OneProcess) -> None:
        """Go on from where the leader does, each rank with random numbers of its own."""
        state = ranks.shared(self.state_dict() if self.step else {}, self.device)
        if ranks.leads:
            return
        if state:
            self.load_state_dict(state)
        seed = np.random.SeedSequence([torch.initial_seed(), self.step, ranks.rank])
        torch.manual_seed(int(seed.generate_state(1)[0]))

    def steps(
        self, batches: Iterable[np.ndarray], checkpoint: Checkpoint | None
    ) -> Iterator[np.ndarray]:
        """The batches of the steps to come. Before one of them the state is written if it is time,
        and also if drawing it is interrupted."""
        to_come = islice(batches, self.step, None)
        if checkpoint is None:
            yield from to_come
            return
        while True:
            try:
                items = next(to_come, None)
            except KeyboardInterrupt:
                if checkpoint.is_due or checkpoint.is_there:
                    self._write(checkpoint)
                raise
            if items is None:
                return
            if checkpoint.is_due:
                self._write(checkpoint)
            yield items

    def _write(self, checkpoint: Checkpoint) -> None:
        """Unless there has been no step since."""
        if self.step > self.written:
            self.clock.enter("checkpoint")
            checkpoint.write(self.state_dict())
            self.clock.enter("data")
            self.written = self.step

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, the former not copied."""
        return {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "micro_batch": self.micro_batches.found,
            "seconds": self.clock.seconds(),
            "monitor": self.monitor.state_dict(),
            "step": self.step,
            "values": list(self.values),
            "random": random_state(self.device),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("model", "loss", "optimizer", "monitor"):
            getattr(self, name).load_state_dict(state[name])
        self.micro_batches.found = state["micro_batch"]
        self.clock.set(state["seconds"])
        self.step = state["step"]
        self.values = list(state["values"])
        set_random_state(self.device, state["random"])
