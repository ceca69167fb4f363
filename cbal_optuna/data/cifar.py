"""CIFAR-10 and CIFAR-100: photographs of 32 x 32 pixels (Krizhevsky, 2009).

Read from the binary versions: the Python versions are pickles, which may run code.
"""

from __future__ import annotations

import os

import numpy as np

from cbal_optuna.data.archive import Archive
from cbal_optuna.data.pixels import lines
from cbal_optuna.data.pixels import PixelFiles
from cbal_optuna.data.pixels import PixelLayout


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
        layout = PixelLayout(side=32, n_labels=1)
        labels = np.concatenate([layout.records(folder / name)[:, 0] for name in CIFAR10_FILES])
        names = lines(folder / "batches.meta.txt")
        super().__init__("CIFAR-10", 60_000, folder, CIFAR10_FILES, layout, labels, names)


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
        layout = PixelLayout(side=32, n_labels=2)
        # The other one is that of the coarse class.
        labels = np.concatenate([layout.records(folder / name)[:, 1] for name in CIFAR100_FILES])
        names = lines(folder / "fine_label_names.txt")
        super().__init__("CIFAR-100", 60_000, folder, CIFAR100_FILES, layout, labels, names)
