"""Handwritten digits that come with scikit-learn: real images without a download."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from cbal_optuna.data.images import LabelledImages


class Digits(LabelledImages):
    """1,797 grey images of 8 x 8 pixels, 10 classes.

    The test part of 'Optical Recognition of Handwritten Digits' (Alpaydin and Kaynak, UCI), as
    ``sklearn.datasets.load_digits`` has it. Its grey values 0 to 16 are scaled to 0 to 255.
    """

    def __init__(self) -> None:
        # Imported here, as scikit-learn takes a second that the other data sets need not pay.
        from sklearn.datasets import load_digits

        digits = load_digits()
        super().__init__("digits", digits.target, [str(name) for name in digits.target_names])
        self._pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index]).convert("RGB")

    def fingerprint(self) -> str:
        return hashlib.blake2b(self._pixels.tobytes(), digest_size=16).hexdigest()
