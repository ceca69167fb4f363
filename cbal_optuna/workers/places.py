"""Which device, and which share of it and of the processor, each worker has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

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


def place_among(
    nodes: Sequence[dict[str, Any]], n_workers: int, device: str
) -> tuple[Place, float, float]:
    """One for each worker on the nodes of a Ray cluster that are alive, and the CPUs and GPUs that
    Ray keeps for it.

    Args:
        nodes:
            As Ray describes them.
        n_workers:
            That share them.
        device:
            ``"cpu"``, or any other name for their GPUs, if they have some.

    Raises:
        ValueError: They have no CPU.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    able = [found for found in alive if found.get("CPU", 0) >= 1]
    if not able:
        raise ValueError(
            "`ray` names a cluster that has no CPU at the moment; it should have a node with one."
        )
    with_gpu = [found for found in able if found.get("GPU", 0) >= 1]
    n_gpus, rooms = 0.0, [n_workers] * len(able)
    if device != "cpu" and with_gpu:
        able, gpus = with_gpu, [int(found["GPU"]) for found in with_gpu]
        # A training has no use for a second one.
        n_gpus = min(1.0, _share(gpus, [n_workers] * len(gpus), n_workers))
        rooms = [round(n / n_gpus) for n in gpus]
    n_cpus = _share([int(found["CPU"]) for found in able], rooms, n_workers)
    kind = torch.device("cuda" if n_gpus else "cpu")
    return Place(kind, n_gpus or 1.0, n_threads=max(1, int(n_cpus))), n_cpus, n_gpus


def _share(counts: Sequence[int], rooms: Sequence[int], n_workers: int) -> float:
    """The most that each worker can have, all on one node: a whole number, or a fraction of 1.

    Args:
        counts:
            What each node has.
        rooms:
            How many workers there is room for on each.
    """

    def holds(parts: Sequence[int]) -> bool:
        return sum(map(min, parts, rooms)) >= n_workers

    for share in range(max(counts), 0, -1):
        if holds([n // share for n in counts]):
            return float(share)
    return 1 / next(m for m in count(2) if holds([n * m for n in counts]))
