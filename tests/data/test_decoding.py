from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
import pytest

from cbal_optuna.data import BrokenImageError
from cbal_optuna.data import decode_into
from cbal_optuna.data import LabelledImages


class Images(LabelledImages):
    """The images of a function of their index."""

    def __init__(self, n: int, image: Callable[[int], Image.Image]) -> None:
        super().__init__("images", [0] * n, ["class"])
        self._image = image

    def image(self, index: int) -> Image.Image:
        return self._image(index)

    def fingerprint(self) -> str:
        return ""


class Labelled(Images):
    """Of two classes."""

    def __init__(self, labels: Any, is_query: Any = None) -> None:
        LabelledImages.__init__(self, "labelled", labels, ["a", "b"], is_query=is_query)


def decoded(
    *images: Image.Image, size: int, interpolation: str = "bilinear", start: int = 0
) -> np.ndarray:
    array = np.empty((len(images) - start, size, size, 3), np.uint8)
    dataset = Images(len(images), lambda i: images[i])
    decode_into(array, dataset, interpolation=interpolation, start=start)
    return array


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_an_image_of_the_right_size_stays_as_it_is(interpolation: str) -> None:
    image = noise(12, 12)
    (array,) = decoded(image, size=12, interpolation=interpolation)
    np.testing.assert_array_equal(array, np.asarray(image))


@pytest.mark.parametrize(("width", "height"), [(20, 12), (12, 20)])
def test_the_central_square_is_taken(width: int, height: int) -> None:
    image = noise(width, height)
    left, top = (width - 12) // 2, (height - 12) // 2
    (array,) = decoded(image, size=12)
    np.testing.assert_array_equal(array, np.asarray(image)[top : top + 12, left : left + 12])


@pytest.mark.parametrize("size", [5, 40])
@pytest.mark.parametrize(("width", "height"), [(16, 16), (16, 33), (33, 16), (1, 9), (3000, 2)])
def test_images_of_any_shape_become_squares(width: int, height: int, size: int) -> None:
    assert decoded(noise(width, height), size=size).shape == (1, size, size, 3)


@pytest.mark.parametrize("size", [10, 40])
def test_the_square_is_that_of_the_resized_image(size: int) -> None:
    image = noise(60, 20)
    (array,) = decoded(image, size=size)
    resized = image.resize((3 * size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(array, np.asarray(resized)[:, size : 2 * size])


def test_halving_takes_the_mean_of_four_pixels() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[::2, ::2] = 200
    (array,) = decoded(Image.fromarray(pixels), size=4, interpolation="box")
    assert (array == 50).all()


def test_the_interpolation_is_the_one_asked_for() -> None:
    image = noise(16, 16)
    for interpolation in ("bilinear", "bicubic"):
        resample = Image.Resampling[interpolation.upper()]
        (array,) = decoded(image, size=7, interpolation=interpolation)
        np.testing.assert_array_equal(array, np.asarray(image.resize((7, 7), resample)))


def test_images_come_in_their_order_from_start_on() -> None:
    images = [Image.new("RGB", (3 + i, 5), (i, i, i)) for i in range(60)]
    array = decoded(*images, size=4, start=10)
    assert [set(image.ravel().tolist()) for image in array] == [{i} for i in range(10, 60)]


def test_no_images_are_no_error() -> None:
    assert decoded(size=4).shape == (0, 4, 4, 3)


def test_a_broken_image_is_reported() -> None:
    def image(index: int) -> Image.Image:
        if index == 3:
            raise BrokenImageError("the image file 3.png cannot be read: truncated")
        return noise(4, 4)

    with pytest.raises(BrokenImageError, match="3.png"):
        decode_into(np.empty((9, 4, 4, 3), np.uint8), Images(9, image))


@pytest.mark.parametrize(
    ("image", "given"),
    [(Image.new("L", (4, 4)), "one in mode L"), (np.zeros((4, 4, 3), np.uint8), "ndarray")],
)
def test_what_is_no_image_in_rgb_is_told_so(image: Any, given: str) -> None:
    with pytest.raises(ValueError, match=f"`image` of .* mode RGB, got {given} for 1"):
        decoded(noise(4, 4), image, size=4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], r"`labels` must be integers of shape \(n,\), got float64 of shape \(2,\)"),
        (np.eye(2, dtype=int), r"`labels` must be .* got int64 of shape \(2, 2\)"),
        ([1, 2], "`labels` must be from 0 to 1, as there are 2 class names, or -1 .* got 2"),
        ([0, -2], "`labels` must be from 0 .* got -2"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labelled(labels)


def test_each_image_is_a_query_or_not() -> None:
    with pytest.raises(ValueError, match=r"`is_query` must say it of each of the 2 images, got "):
        Labelled([0, 1], is_query=[True])
