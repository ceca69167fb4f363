"""Inputs of a whole study where its trainings want them, and copies to a GPU that nobody waits
for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


# What an array may take of a GPU's free memory; the rest is for models and activations.
_SHARE_OF_FREE_MEMORY = 0.25
_CHUNK = 1024


class DeviceRows:
    """Rows of an array, by their indices, on a device.

    On a GPU the whole array lives there, if it takes no more than a quarter of the memory that is
    free at first, or of the share of this process, if that is less; else its rows come by way of
    pinned memory, while the GPU goes on with what it has to do.

    On a CPU, and where it is too large for the GPU, the array stays where it is. If that is a file
    mapped into memory, the system keeps of it what there is room for, for all processes together:
    a data set larger than memory needs nothing else, as reading decoded rows is all that is left
    to do.

    Args:
        array:
            Of shape (n, ...).
        device:
            Where rows are wanted.
    """

    def __init__(self, array: np.ndarray, device: torch.device) -> None:
        self._array = np.asarray(array)
        self._device = device
        self._resident: Tensor | None = None
        if array.nbytes <= _SHARE_OF_FREE_MEMORY * _free_memory(device):
            self._resident = _copied(self._array, device)

    def __call__(self, items: np.ndarray) -> Tensor:
        """Rows, of shape (len(items), ...), by indices, int64."""
        if self._resident is not None:
            return self._resident.index_select(0, on_device(items, self._device))
        return on_device(self._array.take(items, axis=0), self._device)

    def ahead(self, batches: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        """The batches as they are: their rows are there already."""
        return batches


def on_device(array: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """A tensor from the CPU, on a device, which is not waited for."""
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    if device.type == "cuda":
        # Only copies from pinned memory do not wait.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _free_memory(device: torch.device) -> int:
    """In bytes: of a GPU, as far as this process may take it, else 0."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    # Older releases of torch do not say.
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)(device)
    return min(free, int(share * total))


def _copied(array: np.ndarray, device: torch.device) -> Tensor:
    """In parts: of a mapped file, memory then never holds the whole."""
    parts = range(0, len(array), _CHUNK)
    dtype = torch.from_numpy(array[:0].copy()).dtype
    copy = torch.empty(array.shape, dtype=dtype, device=device)
    for start in parts:
        copy[start : start + _CHUNK] = torch.from_numpy(array[start : start + _CHUNK].copy())
    return copy
