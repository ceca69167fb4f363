"""Images decoded each time they are wanted, for data too large to be kept decoded."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cbal_optuna.data import decoded
from cbal_optuna.data import LabelledImages
from cbal_optuna.training.device_rows import on_device


class DecodedRows:
    """The images of a data set, by their indices, on a device: as :class:`DeviceRows` of an array
    of them gives them, but decoded at each call, and no sooner than a batch ahead. As many threads
    do it as torch has, which is a worker's share of the cores.

    Args:
        dataset:
            The images.
        size:
            Side of the square that they are cut and resized to, in pixels.
        interpolation:
            In resizing, as timm names it.
        device:
            Where they are wanted.
    """

    def __init__(
        self, dataset: LabelledImages, size: int, interpolation: str, device: torch.device
    ) -> None:
        self._decode = partial(decoded, dataset, size=size, interpolation=interpolation)
        self._device = device
        self._threads = ThreadPoolExecutor(torch.get_num_threads())
        self._coming: dict[bytes, list[Future[np.ndarray]]] = {}

    def __call__(self, items: np.ndarray) -> Tensor:
        """Images, uint8 of shape (len(items), size, size, 3), by indices, int64.

        Raises:
            BrokenImageError: An image cannot be decoded.
        """
        unique, positions = np.unique(items, return_inverse=True)
        images = self._coming.pop(unique.tobytes(), None) or self._begun(unique)
        rows = np.stack([image.result() for image in images])
        return on_device(rows.take(positions, axis=0), self._device)

    def ahead(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The batches, the next one being decoded while one is used."""
        under_way: list[np.ndarray] = []
        try:
            for batch in batches:
                unique = np.unique(batch)
                self._coming[unique.tobytes()] = self._begun(unique)
                under_way.append(batch)
                if len(under_way) == 2:
                    yield under_way[0]
                    self._dropped(under_way.pop(0))
            yield from under_way
        finally:
            # Also of a training that ends early.
            for batch in under_way:
                self._dropped(batch)

    def _begun(self, unique: np.ndarray) -> list[Future[np.ndarray]]:
        return [self._threads.submit(self._decode, int(i)) for i in unique]

    def _dropped(self, batch: np.ndarray) -> None:
        """A batch that nobody asked for, as when a training goes on from a checkpoint."""
        for image in self._coming.pop(np.unique(batch).tobytes(), ()):
            image.cancel()
