"""Where the time of a training goes, found out without waiting for the device."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
import time
from typing import get_args
from typing import Literal

import torch


Phase = Literal["data", "forward", "loss", "backward", "step", "evaluation", "checkpoint"]
PHASES: tuple[Phase, ...] = get_args(Phase)
#: Those that make a step.
STEP_PHASES = PHASES[:5]

# Marks on a device between two looks at which of them it has passed; more than a step has.
_MARKS = 256


class PhaseClock(ABC):
    """How long a training was in each of its phases, each lasting until the next is entered.

    ======================  =====================================================================
    ``data``                batches drawn; their images fetched, augmented and on the device
    ``forward``             from images to embeddings
    ``loss``                from embeddings to the two terms and their balance
    ``backward``            gradients of the loss and the model; with micro-batches also the
                            second forward passes, which take turns with the backward passes
    ``step``                optimizer and learning rate
    ``evaluation``          all that an evaluation does
    ``checkpoint``          writing the state of the training
    ======================  =====================================================================

    A forward pass that is repeated because it ran out of memory counts where it failed.
    """

    def __init__(self) -> None:
        self._seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)

    @abstractmethod
    def enter(self, phase: Phase) -> None:
        """End the phase before and begin this one; does not wait for the device."""

    @abstractmethod
    def seconds(self) -> dict[Phase, float]:
        """By phase, without the one that lasts; waits for the device."""

    def set(self, seconds: Mapping[Phase, float]) -> None:
        """Go on from these times."""
        self._seconds = dict(seconds)


def phase_clock(device: torch.device) -> PhaseClock:
    """A clock for a training on a device."""
    return _DeviceClock(device) if device.type == "cuda" else _HostClock()


class _HostClock(PhaseClock):
    def __init__(self) -> None:
        super().__init__()
        self._phase: Phase | None = None
        self._since = 0.0

    def enter(self, phase: Phase) -> None:
        now = time.perf_counter()
        if self._phase is not None:
            self._seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    def seconds(self) -> dict[Phase, float]:
        return dict(self._seconds)


class _DeviceClock(PhaseClock):
    """Marks the beginnings in the device's own queue of work, and reads them when it has passed
    them. Where the device waits for the host, the time is that of the phase the host is in."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._stream = torch.cuda.current_stream(device)
        self._marks: deque[tuple[Phase, torch.cuda.Event]] = deque()
        self._free: list[torch.cuda.Event] = []

    def enter(self, phase: Phase) -> None:
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        self._marks.append((phase, event))
        if len(self._marks) % _MARKS == 0 and self._marks[_MARKS // 2][1].query():
            self._read(_MARKS // 2)

    def seconds(self) -> dict[Phase, float]:
        if self._marks:
            self._marks[-1][1].synchronize()
            self._read(len(self._marks) - 1)
        return dict(self._seconds)

    def _read(self, count: int) -> None:
        for _ in range(count):
            phase, event = self._marks.popleft()
            self._seconds[phase] += event.elapsed_time(self._marks[0][1]) / 1e3
            self._free.append(event)
