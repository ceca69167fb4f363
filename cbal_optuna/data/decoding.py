"""Images as arrays of one size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
import os

import numpy as np
from PIL import Image
from tqdm import tqdm

from cbal_optuna.data.images import LabelledImages


def decode_into(
    array: np.ndarray, dataset: LabelledImages, *, interpolation: str = "bilinear", start: int = 0
) -> None:
    """Decode images ``start``, ``start + 1``, ... of a data set into a uint8 array of shape (n,
    size, size, 3).

    Each image is cut to its central square, and that resized.

    Raises:
        BrokenImageError: An image cannot be decoded.
    """
    size = array.shape[1]
    resample = Image.Resampling[interpolation.upper()]
    square = partial(_central_square, size=size, resample=resample)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        indices = range(start, start + len(array))
        images = threads.map(lambda i: square(dataset.image(i)), indices)
        progress = tqdm(
            images, f"decoding {dataset.name}", total=len(array), leave=False, delay=2.0
        )
        for i, image in enumerate(progress):
            array[i] = image


def _central_square(image: Image.Image, size: int, resample: Image.Resampling) -> np.ndarray:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # Cut before resizing: the other way round, a long strip of an image would take all memory.
    return np.asarray(image.resize((size, size), resample, (left, top, left + side, top + side)))
