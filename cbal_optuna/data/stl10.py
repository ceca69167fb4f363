"""STL-10: photographs of 96 x 96 pixels, most of them without a label (Coates, Ng, Lee, 2011)."""

from __future__ import annotations

import os

import numpy as np

from cbal_optuna.data.archive import Archive
from cbal_optuna.data.images import UNLABELLED
from cbal_optuna.data.pixels import lines
from cbal_optuna.data.pixels import PixelFiles
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
        mapped = {name: records(folder / name, 3 * 96 * 96) for name in FILES}
        # Its planes are column by column.
        pixels = {n: x.reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2) for n, x in mapped.items()}
        train, unlabelled, test = (len(x) for x in pixels.values())
        labels = [
            records(folder / "train_y.bin", 1, train).ravel().astype(np.int64) - 1,
            np.full(unlabelled, UNLABELLED),
            records(folder / "test_y.bin", 1, test).ravel().astype(np.int64) - 1,
        ]
        n = train + unlabelled + test
        super().__init__(
            "STL-10" if n == 113_000 else f"STL-10_{n}_images",
            folder,
            pixels,
            np.concatenate(labels),
            lines(folder / "class_names.txt"),
            test_images=np.arange(train + unlabelled, n),
        )
