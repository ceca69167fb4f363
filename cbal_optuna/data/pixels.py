"""Images that come as bytes, many in a file: red, green and blue planes, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cbal_optuna.data.images import fingerprint_of_files
from cbal_optuna.data.images import LabelledImages
from cbal_optuna.data.layout import name_of
from cbal_optuna.data.layout import text_lines


@dataclass(frozen=True)
class PixelLayout:
    """Of the files' records, one for each image.

    Args:
        side: Of the square images, in pixels.
        n_labels: Bytes of labels before the pixels.
        by_columns: Whether a plane is stored column by column.
    """

    side: int
    n_labels: int = 0
    by_columns: bool = False

    def records(self, path: Path) -> np.ndarray:
        """Those of a file, mapped, uint8 of shape (n, bytes)."""
        return records(path, self.n_labels + 3 * self.side**2)

    def images(self, path: Path) -> np.ndarray:
        """Those of a file, mapped, uint8 of shape (n, 3, height, width)."""
        images = self.records(path)[:, self.n_labels :].reshape(-1, 3, self.side, self.side)
        return images.swapaxes(2, 3) if self.by_columns else images


class PixelFiles(LabelledImages):
    """Images mapped from files, in memory only while they are used; the last file is the test.

    Args:
        name: What to call the whole data set.
        n_images: The number of its images; with another one it is called like its folder.
        root: The folder of the files.
        files: Their names.
        layout: Of all files.
        labels: Class of every image, file by file; see `LabelledImages`.
        class_names: See `LabelledImages`.

    Raises:
        ValueError: There is not a label for each image, or one that is none of the classes.
    """

    def __init__(
        self,
        name: str,
        n_images: int,
        root: Path,
        files: Sequence[str],
        layout: PixelLayout,
        labels: np.ndarray,
        class_names: Sequence[str],
    ) -> None:
        self._root, self._files, self._layout = root, list(files), layout
        self._arrays = self._mapped()
        self._ends = np.cumsum([len(array) for array in self._arrays])
        n = int(self._ends[-1])
        if len(labels) != n or labels.max() >= len(class_names):
            raise ValueError(
                f"the files in {root} must have a label of one of {len(class_names)} classes for "
                f"each of their {n} images, got {len(labels)} labels up to {labels.max()}"
            )
        super().__init__(
            name_of(name, root, n, whole=n == n_images),
            labels,
            class_names,
            test_images=np.arange(n - len(self._arrays[-1]), n),
        )

    def image(self, index: int) -> Image.Image:
        file = int(np.searchsorted(self._ends, index, side="right"))
        planes = self._arrays[file][index - self._ends[file]]
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))

    def fingerprint(self) -> str:
        return fingerprint_of_files(self._root, self._files)

    def _mapped(self) -> list[np.ndarray]:
        return [self._layout.images(self._root / name) for name in self._files]

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files, too: their contents would be copied to it.
        return {k: v for k, v in self.__dict__.items() if k != "_arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._arrays = self._mapped()


def records(path: Path, size: int) -> np.ndarray:
    """The records of a file, mapped, uint8 of shape (n, size).

    Raises:
        ValueError: The file holds none, or a part of one.
    """
    n, rest = divmod(path.stat().st_size, size)
    if rest or not n:
        raise ValueError(
            f"{path} must hold records of {size} bytes, got {path.stat().st_size} bytes"
        )
    return np.memmap(path, np.uint8, mode="r", shape=(n, size))


def lines(path: Path) -> list[str]:
    """Of a text file, without empty ones."""
    return [line.strip() for line in text_lines(path) if line.strip()]
