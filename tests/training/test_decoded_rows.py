from __future__ import annotations

from collections import Counter
from threading import Event
from threading import get_ident

import numpy as np
from PIL import Image
import pytest
import torch

from cbal_optuna.data import BrokenImageError
from cbal_optuna.data import LabelledImages
from cbal_optuna.training.decoded_rows import DecodedRows


CPU = torch.device("cpu")
BATCHES = [np.array([3, 1, 3, 0]), np.array([1, 2]), np.array([5, 4, 4])]


class Counted(LabelledImages):
    """Images of one colour, which count how often they are decoded."""

    def __init__(self) -> None:
        super().__init__("counted", np.arange(8) % 2, ["even", "odd"])
        self.times: Counter[int] = Counter()

    def image(self, index: int) -> Image.Image:
        self.times[index] += 1
        if index == 7:
            raise BrokenImageError("the image file 7.png cannot be read")
        return Image.new("RGB", (6, 4), (index, 10 * index, 0))

    def fingerprint(self) -> str:
        return "counted"


@pytest.fixture
def images() -> Counted:
    return Counted()


@pytest.fixture
def rows(images: Counted) -> DecodedRows:
    return DecodedRows(images, 4, "bilinear", CPU)


def test_rows_are_images_in_the_order_asked_for(rows: DecodedRows) -> None:
    batch = rows(BATCHES[0])
    assert batch.shape == (4, 4, 4, 3)
    assert batch.dtype == torch.uint8
    assert batch[:, 0, 0].tolist() == [[3, 30, 0], [1, 10, 0], [3, 30, 0], [0, 0, 0]]


def test_an_image_of_several_views_is_decoded_once(rows: DecodedRows, images: Counted) -> None:
    rows(BATCHES[0])
    assert images.times == {0: 1, 1: 1, 3: 1}


def test_batches_ahead_are_the_batches(rows: DecodedRows) -> None:
    seen = list(rows.ahead(BATCHES))
    assert all(np.array_equal(a, b) for a, b in zip(seen, BATCHES, strict=True))
    assert list(rows.ahead([])) == []


def test_the_next_batch_is_decoded_while_one_is_used(rows: DecodedRows, images: Counted) -> None:
    batches = rows.ahead(BATCHES)
    rows(next(iter(batches)))
    for image in rows._coming[BATCHES[1].tobytes()]:
        image.result()
    assert images.times[2] == 1
    assert images.times[4] == 0
    rows(BATCHES[1])
    assert images.times[2] == 1


def test_nothing_is_kept_of_batches_that_nobody_asked_for(rows: DecodedRows) -> None:
    for _ in rows.ahead(BATCHES):
        pass
    assert rows._coming == {}


def test_nothing_is_kept_of_a_training_that_ends_early(rows: DecodedRows) -> None:
    batches = rows.ahead(BATCHES)
    rows(next(batches))
    assert rows._coming != {}
    batches.close()
    assert rows._coming == {}


def test_a_broken_image_is_named_where_it_is_used(rows: DecodedRows) -> None:
    broken = np.array([6, 7])
    with pytest.raises(BrokenImageError, match=r"7\.png"):
        for items in rows.ahead([BATCHES[0], broken]):
            rows(items)


class Held(Counted):
    """Images that are decoded once all are asked for; who decodes them is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for = Event()
        self.threads: set[int] = set()

    def image(self, index: int) -> Image.Image:
        self.threads.add(get_ident())
        self.asked_for.wait()
        return super().image(index)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_as_many_threads_as_torch_has_decode_images(
    n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    images = Held()
    rows = DecodedRows(images, 4, "bilinear", CPU)
    batches = rows.ahead([np.arange(6), BATCHES[0]])
    batch = next(iter(batches))
    images.asked_for.set()
    rows(batch)
    assert len(images.threads) == n_threads
