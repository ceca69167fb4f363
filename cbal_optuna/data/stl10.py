"""STL-10: photographs of 96 x 96 pixels, most of them without a label (Coates, Ng, Lee, 2011)."""

from __future__ import annotations

import os

import numpy as np

from cbal_optuna.data.archive import Archive
from cbal_optuna.data.images import UNLABELLED
from cbal_optuna.data.pixels import lines
from cbal_optuna.data.pixels import PixelFiles
from cbal_optuna.data.pixels import PixelLayout
from cbal_optuna.data.pixels import records


FILES = ("train_X.bin", "unlabeled_X.bin", "test_X.bin")
ARCHIVE = Archive(
    "STL-10 (binary version)",
    "stl10_binary",
    (*FILES, "train_y.bin", "test_y.bin", "class_names.txt"),
    "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    2_640_397_119,
    "91f7769df0f17e558f3565bffb0c7dfb",
)


class STL10(PixelFiles):
    """10 classes, 5,000 training and 8,000 test images, and 100,000 images without a label.

    Args:
        root: The folder with train_X.bin and so on, or the one that holds it as stl10_binary.
        download: Whether to download the archive, 2.6 GB, where it is missing.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or what was downloaded is not the known archive.
        OSError: The download stopped; the next one goes on from there.
    """

    def __init__(self, root: str | os.PathLike[str], *, download: bool = False) -> None:
        folder = ARCHIVE.located(root, download=download)
        layout = PixelLayout(side=96, by_columns=True)
        train, test = (records(folder / name, 1)[:, 0] for name in ("train_y.bin", "test_y.bin"))
        unlabelled = np.full(len(layout.records(folder / "unlabeled_X.bin")), UNLABELLED)
        # Its classes are numbered from 1.
        labels = [train.astype(int) - 1, unlabelled, test.astype(int) - 1]
        names = lines(folder / "class_names.txt")
        super().__init__("STL-10", 113_000, folder, FILES, layout, np.concatenate(labels), names)
