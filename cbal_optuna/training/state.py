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
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cbal_optuna.losses import SplitTerms
from cbal_optuna.training.checkpoint import Checkpoint
from cbal_optuna.training.curve import TermSums
from cbal_optuna.training.micro_batches import MicroBatches
from cbal_optuna.training.one_process import OneProcess
from cbal_optuna.training.phases import PhaseClock


@dataclass
class TrainingState:
    """A training between two steps.

    The batches that were drawn are not in it: they are drawn again, which takes a small part of
    the time of their steps and gives the same ones.

    Args:
        model, loss, optimizer, schedule, micro_batches, clock, terms:
            Of this training.
        health:
            The sum of the loss's terms in the last step, and whether its embeddings were finite;
            of the first step with a sum that was not, if there is one. On the device, of shape
            (2,).
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
    schedule: LRScheduler
    micro_batches: MicroBatches
    clock: PhaseClock
    terms: TermSums
    health: Tensor
    step: int = 0
    written: int = 0
    values: list[float] = field(default_factory=list)

    def note(self, terms: SplitTerms, embeddings: Tensor) -> None:
        """The health of a step, without waiting for the device."""
        value = terms.positive + terms.entropy
        health = torch.stack((value, embeddings.isfinite().all().to(value)))
        self.health = torch.where(self.health[0].isfinite(), health, self.health)

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
        state = ranks.shared(self.state_dict() if self.step else {}, self.terms.sums.device)
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
            "schedule": self.schedule.state_dict(),
            "micro_batch": self.micro_batches.found,
            "seconds": self.clock.seconds(),
            "terms": self.terms.sums,
            "health": self.health,
            "step": self.step,
            "values": list(self.values),
            "random": _random_state(self.terms.sums.device),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("model", "loss", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.micro_batches.found = state["micro_batch"]
        self.clock.set(state["seconds"])
        self.terms.load(state["terms"])
        self.health = state["health"].to(self.health.device)
        self.step = state["step"]
        self.values = list(state["values"])
        _set_random_state(self.terms.sums.device, state["random"])


def _random_state(device: torch.device) -> dict[str, Tensor]:
    on_cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **on_cuda}


def _set_random_state(device: torch.device, state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
