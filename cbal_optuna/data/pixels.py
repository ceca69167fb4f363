"""Images that come as bytes, many in a file: red, green and blue planes, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cbal_optuna.data.images import fingerprint_of_files
from cbal_optuna.data.images import LabelledImages


class PixelFiles(LabelledImages):
    """Images mapped from files, in memory only while they are used.

    Args:
        name: See `LabelledImages`.
        root: The folder of the files.
        pixels: By the files' names, their images: uint8 of shape (n, 3, height, width).
        labels: Class of every image, file by file; see `LabelledImages`.
        class_names, test_images: See `LabelledImages`.

    Raises:
        ValueError: A label is none of the classes.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        pixels: dict[str, np.ndarray],
        labels: np.ndarray,
        class_names: Sequence[str],
        *,
        test_images: np.ndarray,
    ) -> None:
        super().__init__(name, labels, class_names, test_images=test_images)
        if self.labels.max() >= self.n_classes:
            raise ValueError(
                f"the files in {root} must have labels of {self.n_classes} classes, got a label "
                f"{self.labels.max()}"
            )
        self._root = root
        self._pixels = pixels
        self._arrays = list(pixels.values())
        self._ends = np.cumsum([len(array) for array in self._arrays])

    def image(self, index: int) -> Image.Image:
        file = int(np.searchsorted(self._ends, index, side="right"))
        planes = self._arrays[file][index - self._ends[file]]
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))

    def fingerprint(self) -> str:
        return fingerprint_of_files(self._root, list(self._pixels))


def records(path: Path, size: int, count: int | None = None) -> np.ndarray:
    """The records of a file, mapped, uint8 of shape (n, size).

    Raises:
        ValueError: The file holds no whole records, or not `count` of them.
    """
    n, rest = divmod(path.stat().st_size, size)
    if rest or not n or count not in (None, n):
        wanted = "records" if count is None else f"{count} records"
        raise ValueError(
            f"{path} must hold {wanted} of {size} bytes, got {path.stat().st_size} bytes"
        )
    return np.memmap(path, np.uint8, mode="r", shape=(n, size))


def lines(path: Path) -> list[str]:
    """Of a text file, without empty ones."""
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
