"""Images as arrays of one size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
import os

import numpy as np
from PIL import Image
from tqdm import tqdm

from cbal_optuna.data.images import LabelledImages
from cbal_optuna.plain_text import printable


def decode_into(
    array: np.ndarray, dataset: LabelledImages, *, interpolation: str = "bilinear", start: int = 0
) -> None:
    """Decode images ``start``, ``start + 1``, ... of a data set into a uint8 array of shape (n,
    size, size, 3).

    Raises:
        BrokenImageError: An image cannot be decoded.
        ValueError: One is not in mode RGB.
    """
    decode = partial(decoded, dataset, size=array.shape[1], interpolation=interpolation)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        images = threads.map(decode, range(start, start + len(array)))
        progress = tqdm(
            images, f"decoding {printable(dataset.name)}", total=len(array), leave=False, delay=2.0
        )
        for i, image in enumerate(progress):
            array[i] = image


def decoded(
    dataset: LabelledImages, index: int, *, size: int, interpolation: str = "bilinear"
) -> np.ndarray:
    """An image of a data set, cut to its central square and that resized: uint8, (size, size, 3).

    Raises:
        BrokenImageError: The image cannot be decoded.
        ValueError: It is none in mode RGB.
    """
    image = dataset.image(index)
    mode = getattr(image, "mode", None)
    if mode != "RGB":
        given = type(image).__name__ if mode is None else f"one in mode {mode}"
        raise ValueError(
            f"`image` of data set {dataset.name} must give a Pillow image in mode RGB, got "
            f"{given} for {index}"
        )
    return np.asarray(central_square(image, size, interpolation))


def central_square(image: Image.Image, size: int, interpolation: str) -> Image.Image:
    """The largest square in the middle of an image, resized."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = (left, top, left + side, top + side)
    # Cut before resizing: the other way round, a long strip of an image would take all memory.
    resample = Image.Resampling[interpolation.upper()]
    return image.resize((size, size), resample, square)
