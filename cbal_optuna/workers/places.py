"""Which device, and which share of it and of the processor, each worker has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Place:
    """Where a worker trains.

    Attributes:
        device:
            For its models.
        memory_share:
            Of that device's memory, what it may take; of the CPU's, nothing is said.
        n_threads:
            That it may run at once on the CPU.
    """

    device: torch.device
    memory_share: float
    n_threads: int

    def take(self) -> None:
        """Make it that of this process. An allocation beyond the share then runs out of memory
        here, where micro-batches follow, and leaves the neighbours theirs."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            torch.cuda.set_per_process_memory_fraction(self.memory_share, self.device)


def places(device: torch.device, n_workers: int, *, n_devices: int, n_threads: int) -> list[Place]:
    """One for each worker: on all CUDA devices in turn, unless one is named.

    Args:
        device:
            Of the objective.
        n_workers:
            That share the machine.
        n_devices:
            CUDA devices that it has.
        n_threads:
            That may run on its CPU at once.
    """
    devices = [device] * n_workers
    if device == torch.device("cuda"):
        devices = [torch.device("cuda", i % n_devices) for i in range(n_workers)]
    crowds = Counter(devices)
    threads = max(1, n_threads // n_workers)
    return [Place(device, 1 / crowds[device], threads) for device in devices]
