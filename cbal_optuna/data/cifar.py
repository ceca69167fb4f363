"""CIFAR-10 and CIFAR-100: photographs of 32 x 32 pixels (Krizhevsky, 2009).

Read from the binary versions: the Python versions are pickles, which may run code.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path

import numpy as np

from cbal_optuna.data.archive import Archive
from cbal_optuna.data.pixels import lines
from cbal_optuna.data.pixels import PixelFiles
from cbal_optuna.data.pixels import records


CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR10_ARCHIVE = Archive(
    "CIFAR-10 (binary version)",
    "cifar-10-batches-bin",
    (*CIFAR10_FILES, "batches.meta.txt"),
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530",
)
CIFAR100_FILES = ("train.bin", "test.bin")
CIFAR100_ARCHIVE = Archive(
    "CIFAR-100 (binary version)",
    "cifar-100-binary",
    (*CIFAR100_FILES, "fine_label_names.txt"),
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    168_513_733,
    "03b5dce01913d631647c71ecec9e9cb8",
)


class CIFAR10(PixelFiles):
    """10 classes, 50,000 training and 10,000 test images.

    Args:
        root: The folder with data_batch_1.bin and so on, or the one that holds it as
            cifar-10-batches-bin.
        download: Whether to download the archive, 170 MB, where it is missing.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or what was downloaded is not the known archive.
        OSError: The download stopped; the next one goes on from there.
    """

    def __init__(self, root: str | os.PathLike[str], *, download: bool = False) -> None:
        folder = CIFAR10_ARCHIVE.located(root, download=download)
        pixels, labels = _planes(folder, CIFAR10_FILES, n_labels=1)
        names = lines(folder / "batches.meta.txt")
        super().__init__(
            _name("CIFAR-10", labels),
            folder,
            pixels,
            labels,
            names,
            test_images=_last(pixels, labels),
        )


class CIFAR100(PixelFiles):
    """100 classes (the fine ones), 50,000 training and 10,000 test images.

    Args:
        root: The folder with train.bin and test.bin, or the one that holds it as cifar-100-binary.
        download: Whether to download the archive, 169 MB, where it is missing.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or what was downloaded is not the known archive.
        OSError: The download stopped; the next one goes on from there.
    """

    def __init__(self, root: str | os.PathLike[str], *, download: bool = False) -> None:
        folder = CIFAR100_ARCHIVE.located(root, download=download)
        # The first label of each is that of the coarse class.
        pixels, labels = _planes(folder, CIFAR100_FILES, n_labels=2)
        names = lines(folder / "fine_label_names.txt")
        super().__init__(
            _name("CIFAR-100", labels),
            folder,
            pixels,
            labels,
            names,
            test_images=_last(pixels, labels),
        )


def _planes(
    folder: Path, files: Sequence[str], n_labels: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """By file the images, and the last label of each of them."""
    mapped = {name: records(folder / name, n_labels + 3 * 32 * 32) for name in files}
    pixels = {name: rows[:, n_labels:].reshape(-1, 3, 32, 32) for name, rows in mapped.items()}
    labels = np.concatenate([rows[:, n_labels - 1] for rows in mapped.values()])
    return pixels, labels.astype(np.int64)


def _last(pixels: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The images of the last file."""
    n_test = len(list(pixels.values())[-1])
    return np.arange(len(labels) - n_test, len(labels))


def _name(official: str, labels: np.ndarray) -> str:
    # A part of the data set must not be taken for the whole.
    return official if len(labels) == 60_000 else f"{official}_{len(labels)}_images"
