"""Training, validation and test set: of classes, or of images of the same classes.

Class-disjoint splits follow the protocol of Musgrave, Belongie and Lim, 'A Metric Learning Reality
Check' (ECCV 2020): the second half of the classes is the test set, and hyper-parameters are chosen
on validation classes that are taken from the first half. Where the classes of all images are the
same, images are held out instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np

from cbal_optuna.number_kinds import is_number
from cbal_optuna.number_kinds import is_whole


@dataclass(frozen=True)
class ClassSplit:
    """Classes to train on, to validate on and to test on, pairwise disjoint.

    Raises:
        ValueError: A class stands in two of the parts, or twice in one.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        classes = self.train + self.validation + self.test
        if len(set(classes)) < len(classes):
            twice = sorted({label for label in classes if classes.count(label) > 1})
            raise ValueError(
                f"`train`, `validation` and `test` must not share classes, got {twice} twice"
            )

    @property
    def train_and_validation(self) -> tuple[int, ...]:
        """All classes but those of the test set, in ascending order."""
        return tuple(sorted(self.train + self.validation))


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images to train on, to validate on and to test on, pairwise disjoint, by ascending index.

    Raises:
        ValueError: An image stands in two of the parts, or twice in one.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        images = np.concatenate([self.train, self.validation, self.test])
        if len(np.unique(images)) < len(images):
            raise ValueError("`train`, `validation` and `test` must not share images")

    @property
    def train_and_validation(self) -> np.ndarray:
        """All images but those of the test set."""
        return np.sort(np.concatenate([self.train, self.validation]))


def class_splits(
    n_classes: int, *, folds: int = 1, test_share: float = 0.5, validation_share: float = 0.4
) -> list[ClassSplit]:
    """Split the classes 0 to ``n_classes - 1`` into test, validation and training classes.

    The last classes are the test set, the same in every fold. One fold validates on the last
    `validation_share` of the other classes. Several folds cut the other classes into as many
    blocks of neighbours, as equal as possible, and each fold validates on one block and trains
    on the rest; `validation_share` then plays no part.

    Args:
        n_classes: Number of classes of the data set.
        folds: Number of splits to make.
        test_share: Share of the classes to test on, rounded to the nearest number of classes; of
            an odd number, 0.5 gives the larger half to the test set.
        validation_share: Share of the other classes to validate on, rounded likewise.

    Returns:
        One split for each fold.

    Raises:
        ValueError: `folds` is below 1, a share is not between 0 and 1, or a part of a split would
            have fewer than two classes.
    """
    _check_folds_and_shares(folds, test_share=test_share, validation_share=validation_share)
    n_test = _rounded(n_classes * test_share)
    development = np.arange(n_classes - n_test)
    if folds == 1:
        n_validation = _rounded(len(development) * validation_share)
        blocks = [development[len(development) - n_validation :]]
    else:
        # More blocks than classes, and then the smallest has none.
        blocks = np.array_split(development, min(folds, len(development) + 1))
    smallest = min(n_test, *(min(len(block), len(development) - len(block)) for block in blocks))
    if smallest < 2:
        raise ValueError(
            f"`n_classes` must leave two classes or more to each of training, validation and test "
            f"set, got {n_classes} classes with folds={folds}, test_share={test_share}, "
            f"validation_share={validation_share}"
        )
    test = tuple(range(n_classes - n_test, n_classes))
    return [
        ClassSplit(
            train=tuple(np.setdiff1d(development, block).tolist()),
            validation=tuple(block.tolist()),
            test=test,
        )
        for block in blocks
    ]


def image_splits(
    labels: np.ndarray,
    test_images: np.ndarray | None = None,
    *,
    folds: int = 1,
    test_share: float = 0.2,
    validation_share: float = 0.1,
) -> list[ImageSplit]:
    """Hold images out for validation and, unless they are given, for the test.

    What is held out is drawn at random, the same at every call, with the same share of each class.
    Images without a label are for training.

    Args:
        labels: Class of every image, integers of shape (n,), negative for none.
        test_images: Indices of the test set, if the data set has an official one.
        folds: Number of splits to make, with disjoint validation sets that cover all images with
            a label but the test set, or, of one fold, `validation_share` of them.
        test_share: Share of each class to test on, where there is no official test set.
        validation_share: Share of the rest of each class to validate on with one fold.

    Returns:
        One split for each fold.

    Raises:
        ValueError: `folds` is below 1, a share is not between 0 and 1, or there are too few
            images: a validation or test set would be empty, or a training set without a label.
    """
    _check_folds_and_shares(folds, test_share=test_share, validation_share=validation_share)
    if test_images is None:
        test = _ranks_within_classes(labels) < test_share
    else:
        test = np.isin(np.arange(len(labels)), test_images)
    labels = np.where(test, -1, labels)
    ranks = _ranks_within_classes(labels)
    edges = np.linspace(0, 1, folds + 1) if folds > 1 else np.array([0, validation_share])
    held_out = [(low <= ranks) & (ranks < high) for low, high in zip(edges, edges[1:])]
    labelled = labels >= 0
    for validation in held_out:
        if not (test.any() and validation.any() and (labelled & ~validation).any()):
            raise ValueError(
                f"`labels` must give an image or more to each of training, validation and test "
                f"set, got {test.sum()} images for the test and {labelled.sum()} others with a "
                f"label, folds={folds}, test_share={test_share}, "
                f"validation_share={validation_share}"
            )
    return [
        ImageSplit(
            train=np.flatnonzero(~test & ~validation),
            validation=np.flatnonzero(validation),
            test=np.flatnonzero(test),
        )
        for validation in held_out
    ]


def drawn_from_classes(labels: np.ndarray, n: int) -> np.ndarray:
    """Draw images at random, the same at every call, with the same share of each class.

    Args:
        labels: Class of every image, integers of shape (m,), none negative.
        n: How many are wanted; all of them where there are fewer.

    Returns:
        Their indices, ascending.
    """
    return np.sort(_ranks_within_classes(labels).argsort(kind="stable")[:n])


def _ranks_within_classes(labels: np.ndarray) -> np.ndarray:
    """A random order of each class, as numbers evenly spaced in [0, 1); 1 without a label."""
    ranks = np.ones(len(labels))
    generator = np.random.default_rng(0)
    for label in np.unique(labels[labels >= 0]):
        images = generator.permutation(np.flatnonzero(labels == label))
        # A random start, so that of many small classes some have images held out, others none.
        ranks[images] = (np.arange(len(images)) + generator.random()) / len(images)
    return ranks


def _check_folds_and_shares(folds: int, **shares: float) -> None:
    if not is_whole(folds) or folds < 1:
        raise ValueError(f"`folds` must be a whole number of at least 1, got {folds!r}")
    for name, share in shares.items():
        if not is_number(share) or not 0 < share < 1:
            raise ValueError(
                f"`{name}` must be a number between 0 and 1, both excluded, got {share!r}"
            )


def _rounded(share: float) -> int:
    return math.floor(share + 0.5)


def indices_of(labels: np.ndarray, classes: Iterable[int]) -> np.ndarray:
    """Indices of the images of `classes`, ascending.

    Args:
        labels: Class of every image, integers of shape (n,).
        classes: The classes wanted.
    """
    return np.flatnonzero(np.isin(labels, np.fromiter(classes, dtype=np.int64)))


def evenly_spread(kinds: Sequence[str]) -> list[int]:
    """An order of classes in which every kind is spread evenly.

    So any block of neighbours has the kinds in the proportions of the whole. Within a kind the
    order stays as it is.

    Args:
        kinds: The kind of each class, in their present order.

    Returns:
        Positions in `kinds`, in the new order.
    """
    size = Counter(kinds)
    seen: Counter[str] = Counter()
    places = []
    for kind in kinds:
        places.append((seen[kind] + 0.5) / size[kind])
        seen[kind] += 1
    return sorted(range(len(kinds)), key=lambda position: places[position])
