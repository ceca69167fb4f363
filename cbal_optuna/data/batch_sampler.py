"""Batches of m images from each of several classes, or of views of images without classes; every
class and every image is used evenly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np


# Batches drawn at once: one by one, between steps of a training, each takes twice as long.
_BLOCK = 16


class MPerClassBatchSampler:
    """Index batches made of groups, each group `images_per_class` images of one class.

    Classes are visited in rounds: every round visits each class once, in shuffled order. Where
    there are at least as many classes as groups, no class stands twice in a batch; where there
    are fewer, the numbers of groups of two classes differ by one at most.

    The images of a class are visited in rounds too. So a group holds different images unless its
    class has fewer than `images_per_class`; then, and where a class with several groups in the
    batch has too few images for all of them, each image is repeated as often as any other, give
    or take one.

    Every iteration begins new rounds and draws on from `generator`: the same state of the
    generator gives the same batches.

    Args:
        labels: Class of every image, integers of shape (n,).
        batch_size: Images in a batch, a multiple of `images_per_class`, at least two groups.
        images_per_class: Images in a group.
        n_batches: Batches in an iteration.
        generator: Where the randomness comes from.

    Yields:
        Arrays of indices into `labels`, int64 of shape (batch_size,), each run of
        `images_per_class` being a group.

    Raises:
        ValueError: An argument is out of its range, `labels` has fewer than two classes, or there
            are fewer classes than groups and fewer images than `batch_size`.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        images_per_class: int = 4,
        n_batches: int,
        generator: np.random.Generator,
    ) -> None:
        labels = np.asarray(labels)
        if images_per_class < 1:
            raise ValueError(f"`images_per_class` must be at least 1, got {images_per_class}")
        if n_batches < 0:
            raise ValueError(f"`n_batches` must not be negative, got {n_batches}")
        if batch_size % images_per_class or batch_size < 2 * images_per_class:
            raise ValueError(
                f"`batch_size` must be a multiple of images_per_class={images_per_class} and at "
                f"least twice that, got {batch_size}"
            )
        n_classes = len(np.unique(labels))
        if n_classes < 2:
            raise ValueError(f"`labels` must have at least two classes, got {n_classes}")
        if n_classes * images_per_class < batch_size > len(labels):
            raise ValueError(
                f"too few images: `batch_size` must not exceed the {len(labels)} images of these "
                f"{n_classes} classes, got {batch_size}"
            )
        self._labels = labels
        self._batch_size = batch_size
        self._images_per_class = images_per_class
        self._n_batches = n_batches
        self._generator = generator

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        order = np.argsort(self._labels, kind="stable")
        starts = np.flatnonzero(np.diff(self._labels[order])) + 1
        images = [_Rounds(items, self._generator) for items in np.split(order, starts)]
        classes = _Rounds(np.arange(len(images)), self._generator)
        n_groups = self._batch_size // self._images_per_class
        for start in range(0, self._n_batches, _BLOCK):
            count = min(_BLOCK, self._n_batches - start)
            yield from [self._batch(classes.take(n_groups), images) for _ in range(count)]

    def _batch(self, groups: list[int], images: list[_Rounds]) -> np.ndarray:
        """Of groups by the number of their class."""
        batch: list[int] = []
        for c, count in Counter(groups).items():
            taken = images[c].take(count * self._images_per_class)
            if count > 1:
                # Dealt out like cards: the copies of an image, neighbours once sorted, go to
                # different groups.
                taken.sort()
                taken = [item for i in range(count) for item in taken[i::count]]
            batch += taken
        return np.array(batch, np.int64)


class ViewBatchSampler:
    """Index batches in which each image stands several times, to be augmented each time anew.

    Images are visited in rounds: every round visits each image once, in shuffled order, and no
    image is drawn twice for a batch. Every iteration begins a new round and draws on from
    `generator`.

    Args:
        n_images: Number of images.
        batch_size: Different images in a batch.
        views: How often each of them stands in it.
        n_batches: Batches in an iteration.
        generator: Where the randomness comes from.

    Yields:
        Arrays of indices below `n_images`, int64 of shape (views * batch_size,), each run of
        `views` being one image.

    Raises:
        ValueError: An argument is out of its range, or `batch_size` exceeds `n_images`.
    """

    def __init__(
        self,
        n_images: int,
        *,
        batch_size: int,
        views: int = 2,
        n_batches: int,
        generator: np.random.Generator,
    ) -> None:
        if views < 1:
            raise ValueError(f"`views` must be at least 1, got {views}")
        if n_batches < 0:
            raise ValueError(f"`n_batches` must not be negative, got {n_batches}")
        if not 2 <= batch_size <= n_images:
            raise ValueError(
                f"`batch_size` must be from 2 to the number of images, {n_images}, got "
                f"{batch_size}"
            )
        self._n_images = n_images
        self._batch_size = batch_size
        self._views = views
        self._n_batches = n_batches
        self._generator = generator

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        images = _Rounds(np.arange(self._n_images), self._generator)
        for _ in range(self._n_batches):
            yield np.array(images.take(self._batch_size), np.int64).repeat(self._views)


class _Rounds:
    """An endless walk through `items` in rounds, each round all items in a new random order.

    In lists: for the few images of a class, arrays are ten times as slow.
    """

    def __init__(self, items: np.ndarray, generator: np.random.Generator) -> None:
        self._items = items
        self._generator = generator
        self._order: list[int] = []
        self._position = 0

    def take(self, count: int) -> list[int]:
        """The next `count` items, none of them twice more than another.

        Where a round ends within them, the last round to begin begins with items that the rest of
        the first one did not have.
        """
        start, self._position = self._position, self._position + count
        if self._position <= len(self._order):
            return self._order[start : self._position]
        old = self._order[start:]
        full, remaining = divmod(count - len(old), len(self._items))
        whole = [item for _ in range(full) for item in self._shuffled()]
        order, in_old = self._shuffled(), set(old)
        # Beyond these, no item is looked at.
        near, far = order[: remaining + len(old)], order[remaining + len(old) :]
        first = [item for item in near if item not in in_old]
        new = (first + [item for item in near if item in in_old])[:remaining]
        in_new = set(new)
        self._order, self._position = [item for item in near if item not in in_new] + far, 0
        return old + whole + new

    def _shuffled(self) -> list[int]:
        order: list[int] = self._generator.permutation(self._items).tolist()
        return order
