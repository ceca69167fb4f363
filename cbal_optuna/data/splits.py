"""Class-disjoint splits.

The protocol of Musgrave, Belongie and Lim, 'A Metric Learning Reality Check' (ECCV 2020): the
second half of the classes is the test set, and hyper-parameters are chosen on validation classes
that are taken from the first half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np


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
    if folds < 1:
        raise ValueError(f"`folds` must be at least 1, got {folds}")
    for name, share in (("test_share", test_share), ("validation_share", validation_share)):
        if not 0 < share < 1:
            raise ValueError(f"`{name}` must be between 0 and 1, both excluded, got {share}")
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
