"""The common interface of the data sets, and the one way in which image files become RGB."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Sequence
import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError


# Formats of photographs; others are not tried. Among those that Pillow knows is PostScript, which
# it lets Ghostscript run.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# More than the pixels of the largest image take, uncompressed. Decoders may read on to the end of
# a file, which costs nothing to make of any length.
_LARGEST_FILE = 2**31  # bytes

# The label of images that have none.
UNLABELLED = -1


class BrokenImageError(ValueError):
    """An image file that cannot be decoded; the message names the file."""


class LabelledImages(ABC):
    """Images with one class label each.

    Args:
        name: What the data set is called in studies and reports.
        labels: Class of every image, integers of shape (n,), from 0 to ``len(class_names) - 1``,
            or :data:`UNLABELLED`.
        class_names: Names of the classes, those of the official test set last.
        test_share: Share of the classes, the last ones, that are the official test set; half of
            them where there is none.
        is_query: Whether an image is a query, which searches the other images of the classes that
            are evaluated, booleans of shape (n,). Among classes without queries, and by default
            among all, every image searches all others.
        test_images: Indices of the images of the official test set, where that is one of images
            of the same classes.

    Raises:
        ValueError: `labels` or `is_query` is not as said.
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        *,
        test_share: float = 0.5,
        is_query: Sequence[bool] | np.ndarray | None = None,
        test_images: np.ndarray | None = None,
    ) -> None:
        self.name = name
        self.class_names = list(class_names)
        self.labels = _checked_labels(labels, self.n_classes)
        self.test_share = test_share
        if is_query is None:
            is_query = np.zeros(len(self.labels), dtype=bool)
        self.is_query = np.asarray(is_query, dtype=bool)
        if self.is_query.shape != self.labels.shape:
            raise ValueError(
                f"`is_query` must say it of each of the {len(self.labels)} images, got shape "
                f"{self.is_query.shape}"
            )
        self.test_images = test_images

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image at `index`, in mode RGB."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hex digest that changes when the images change: a key for caches of their features."""


def _checked_labels(labels: Sequence[int] | np.ndarray, n_classes: int) -> np.ndarray:
    classes = np.asarray(labels)
    # Of no labels, NumPy makes floats.
    if classes.ndim != 1 or (len(classes) and classes.dtype.kind not in "iu"):
        raise ValueError(
            f"`labels` must be integers of shape (n,), got {classes.dtype} of shape "
            f"{classes.shape}"
        )
    unknown = classes[(classes < UNLABELLED) | (classes >= n_classes)]
    if len(unknown):
        raise ValueError(
            f"`labels` must be from 0 to {n_classes - 1}, as there are {n_classes} class names, "
            f"or {UNLABELLED} for none, got {unknown[0]}"
        )
    return classes.astype(np.int64)


class ImageFiles(LabelledImages):
    """Labelled images in files.

    Args:
        name: See `LabelledImages`.
        root: The folder that `paths` start from.
        paths: Relative path of every image.
        labels, class_names, test_share, is_query: See `LabelledImages`.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        paths: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        *,
        test_share: float = 0.5,
        is_query: Sequence[bool] | np.ndarray | None = None,
    ) -> None:
        super().__init__(name, labels, class_names, test_share=test_share, is_query=is_query)
        self.root = root
        self.paths = list(paths)

    def image(self, index: int) -> Image.Image:
        return read_image(self.root / self.paths[index])

    def fingerprint(self) -> str:
        return fingerprint_of_files(self.root, self.paths)


def fingerprint_of_files(root: Path, paths: Sequence[str]) -> str:
    """A digest of files' order, relative paths, sizes and modification times.

    Not of their contents and not of `root`, so that it is cheap and survives moving the folder.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        status = os.stat(os.path.join(root, path))
        digest.update(os.fsencode(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"))
    return digest.hexdigest()


def read_image(path: Path) -> Image.Image:
    """Read an image file as RGB.

    The image is turned upright as its EXIF orientation says; of an animation the first frame is
    taken. Transparent pixels are laid over white. Grey of 16 bits is scaled by 1 / 257, so that
    its full range becomes 0 to 255, dark images staying dark.

    Raises:
        BrokenImageError: The file is empty, truncated, damaged or not an image in one of the
            formats of `ImageFolder`, it has more than 2 GiB, more pixels than Pillow's limit
            against decompression bombs, or pixels without a defined range (32-bit floats,
            integers outside 0 to 65535).
        OSError: The file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            if os.fstat(file.fileno()).st_size > _LARGEST_FILE:
                raise ValueError(f"it has more than {_LARGEST_FILE:,} bytes")
            with Image.open(file, formats=_FORMATS) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
        except UnidentifiedImageError as error:
            raise BrokenImageError(
                f"the image file {path} cannot be read: it is none of {', '.join(_FORMATS)}"
            ) from error
        # Decoders raise OSError, SyntaxError, struct.error, EOFError and more on damaged files.
        except Exception as error:
            raise BrokenImageError(f"the image file {path} cannot be read: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("32-bit float pixels have no defined range, save them as 8 or 16 bits")
    if image.mode.startswith("I"):
        return _grey_from_16_bits(np.asarray(image)).convert("RGB")
    if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey_from_16_bits(pixels: np.ndarray) -> Image.Image:
    """Scale here, as Pillow's own conversion cuts everything above 255 off."""
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"pixels from {pixels.min()} to {pixels.max()} are not within 16 bits")
    return Image.fromarray(np.round(pixels / 257).astype(np.uint8))
