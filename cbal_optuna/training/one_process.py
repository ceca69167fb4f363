"""The process that trains alone: what a training asks of those that do it together."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class OneProcess:
    """A process that trains alone: all that :class:`Ranks` do together."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that has the study."""
        return self.rank == 0

    def prepare(self, prepare: Callable[[], None]) -> None:
        """Do what leaves files behind: on each machine, one process does so before the others."""
        prepare()

    def end(self) -> None:
        """Say, as the leader, that there is no more to do."""

    @contextmanager
    def together(self, device: torch.device, **work: Any) -> Iterator[None]:
        """Do some work, described by plain values, on a device of each process.

        Raises:
            OtherRankError: The work has ended on another rank.
            MemoryError: It has run out of memory there.
        """
        yield

    def meet(self) -> None:
        """Here the others wait for the leader.

        Raises:
            OtherRankError: The work has ended there instead.
        """

    def parallel(self, module: nn.Module, device: torch.device) -> nn.Module:
        """A module whose parameters and buffers are the leader's and whose gradients are the mean
        over ranks."""
        return module

    def shared(self, state: dict[str, Any], device: torch.device) -> dict[str, Any]:
        """The leader's state: tensors and plain values."""
        return state
