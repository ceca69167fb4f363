from __future__ import annotations

from typing import Any

import pytest
import torch

from cbal_optuna.training import PHASES
from cbal_optuna.training.phases import phase_clock


class Device:
    """A stand-in for CUDA's events: work takes the time it is given, the host none."""

    def __init__(self) -> None:
        self.queued = 0.0
        self.passed = 0.0
        self.n_events = 0
        self.n_waits = 0

    def event(self, enable_timing: bool) -> Event:
        assert enable_timing
        self.n_events += 1
        return Event(self)


class Event:
    def __init__(self, device: Device) -> None:
        self._device = device
        self._at = 0.0

    def record(self, stream: object) -> None:
        self._at = self._device.queued

    def query(self) -> bool:
        return self._at <= self._device.passed

    def synchronize(self) -> None:
        self._device.n_waits += 1
        self._device.passed = max(self._device.passed, self._at)

    def elapsed_time(self, other: Event) -> float:
        assert self.query() and other.query(), "not passed yet"
        return 1e3 * (other._at - self._at)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    stand_in = Device()
    monkeypatch.setattr(torch.cuda, "Event", stand_in.event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    return stand_in


def steps(clock: Any, device: Device, n: int, behind: float) -> None:
    for _ in range(n):
        for seconds, phase in enumerate(PHASES, 1):
            clock.enter(phase)
            device.queued += seconds
        device.passed = max(0.0, device.queued - behind)
    clock.enter("data")


@pytest.mark.parametrize("behind", [0.0, 50.0, 1e9])
def test_times_on_a_device_are_its_own_however_far_it_is_behind(
    device: Device, behind: float
) -> None:
    clock = phase_clock(torch.device("cuda"))
    steps(clock, device, 1000, behind)
    assert device.n_waits == 0
    assert clock.seconds() == {phase: 1000.0 * i for i, phase in enumerate(PHASES, 1)}
    steps(clock, device, 10, behind)
    assert clock.seconds() == {phase: 1010.0 * i for i, phase in enumerate(PHASES, 1)}
    assert device.n_waits == 2


def test_events_are_used_again(device: Device) -> None:
    steps(phase_clock(torch.device("cuda")), device, 10_000, 50.0)
    assert device.n_events < 300


def test_a_phase_that_lasts_is_not_counted_yet() -> None:
    clock = phase_clock(torch.device("cpu"))
    clock.enter("data")
    assert clock.seconds() == dict.fromkeys(PHASES, 0.0)
    clock.enter("forward")
    assert clock.seconds()["data"] > 0.0 == clock.seconds()["forward"]
