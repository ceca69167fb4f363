from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from cbal_optuna.data import class_splits
from cbal_optuna.data import ClassSplit
from cbal_optuna.data import drawn_from_classes
from cbal_optuna.data import image_splits
from cbal_optuna.data import ImageSplit
from cbal_optuna.data import indices_of
from cbal_optuna.data.splits import evenly_spread


def test_second_half_is_tested_and_the_end_of_the_first_validated() -> None:
    assert class_splits(10) == [ClassSplit((0, 1, 2), (3, 4), (5, 6, 7, 8, 9))]


def test_larger_half_of_an_odd_number_is_tested() -> None:
    assert class_splits(11)[0].test == (5, 6, 7, 8, 9, 10)


def test_cub_gets_60_training_40_validation_and_100_test_classes() -> None:
    (split,) = class_splits(200)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [60, 40, 100]


def test_shares_set_the_sizes() -> None:
    (split,) = class_splits(100, test_share=0.2, validation_share=0.25)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [60, 20, 20]


def test_folds_validate_on_neighbouring_classes_and_train_on_the_others() -> None:
    splits = class_splits(14, folds=3)
    assert [split.validation for split in splits] == [(0, 1, 2), (3, 4), (5, 6)]
    assert [split.train for split in splits] == [(3, 4, 5, 6), (0, 1, 2, 5, 6), (0, 1, 2, 3, 4)]


@given(
    n_classes=st.integers(0, 60),
    folds=st.integers(1, 6),
    test_share=st.floats(0.05, 0.95),
    validation_share=st.floats(0.05, 0.95),
)
def test_every_class_has_one_part_and_every_part_two_classes(
    n_classes: int, folds: int, test_share: float, validation_share: float
) -> None:
    try:
        splits = class_splits(
            n_classes, folds=folds, test_share=test_share, validation_share=validation_share
        )
    except ValueError as error:
        assert f"{n_classes} classes" in str(error)
        return
    assert len(splits) == folds
    for split in splits:
        assert sorted(split.train_and_validation + split.test) == list(range(n_classes))
        assert min(len(split.train), len(split.validation), len(split.test)) >= 2
        assert split.test == splits[0].test
        assert max(split.train_and_validation) < min(split.test)


@given(n_development=st.integers(4, 60), folds=st.integers(2, 6))
def test_folds_validate_on_every_class_once(n_development: int, folds: int) -> None:
    if n_development < 2 * folds:
        return
    splits = class_splits(2 * n_development, folds=folds)
    validated = [label for split in splits for label in split.validation]
    assert validated == list(range(n_development))
    sizes = [len(split.validation) for split in splits]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("n_classes", "folds"), [(3, 1), (7, 1), (8, 1), (6, 2), (11, 3)])
def test_too_few_classes_are_refused_with_their_number(n_classes: int, folds: int) -> None:
    with pytest.raises(ValueError, match=f"`n_classes` .* two classes .* got {n_classes} cl"):
        class_splits(n_classes, folds=folds, validation_share=0.3)


@pytest.mark.parametrize(("n_classes", "folds"), [(8, 2), (11, 2), (12, 3)])
def test_just_enough_classes_are_split(n_classes: int, folds: int) -> None:
    assert len(class_splits(n_classes, folds=folds)) == folds


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"folds": 0}, "folds"),
        ({"test_share": 0.0}, "test_share"),
        ({"test_share": 1.0}, "test_share"),
        ({"validation_share": 1.5}, "validation_share"),
        ({"validation_share": float("nan")}, "validation_share"),
    ],
)
def test_argument_out_of_range_is_named(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        class_splits(100, **options)


@pytest.mark.parametrize(
    "parts", [((0, 1), (1, 2), (3,)), ((0,), (1,), (1,)), ((0, 1), (2,), (0,)), ((0, 0), (1,), ())]
)
def test_parts_that_share_a_class_are_refused(parts: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="must not share classes"):
        ClassSplit(*parts)


def test_train_and_validation_is_in_ascending_order() -> None:
    assert ClassSplit((0, 3), (1, 2), (4, 5)).train_and_validation == (0, 1, 2, 3)


def test_splits_are_hashable_values() -> None:
    assert len({*class_splits(20), *class_splits(20), *class_splits(22)}) == 2


def test_indices_of_classes_are_those_of_their_images() -> None:
    labels = np.array([2, 0, 1, 2, 1, 0])
    assert indices_of(labels, (2, 0)).tolist() == [0, 1, 3, 5]
    assert indices_of(labels, ()).tolist() == []


@given(kinds=st.lists(st.sampled_from("abcd"), max_size=60))
def test_every_block_of_evenly_spread_classes_has_the_kinds_in_proportion(
    kinds: list[str],
) -> None:
    order = evenly_spread(kinds)
    assert sorted(order) == list(range(len(kinds)))
    for kind in set(kinds):
        places = [place for place, position in enumerate(order) if kinds[position] == kind]
        for block in range(0, len(kinds), 7):
            expected = kinds.count(kind) * len(kinds[block : block + 7]) / len(kinds)
            assert abs(sum(block <= place < block + 7 for place in places) - expected) <= 4
        assert [order[place] for place in places] == sorted(order[place] for place in places)


# Images


def test_images_are_held_out_evenly_from_every_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 50))
    (split,) = image_splits(labels)
    assert np.bincount(labels[split.test]).tolist() == [10] * 4
    assert np.bincount(labels[split.validation]).tolist() == [4] * 4
    assert np.bincount(labels[split.train]).tolist() == [36] * 4


@given(
    sizes=st.lists(st.integers(25, 40), min_size=1, max_size=5),
    folds=st.integers(1, 4),
    n_unlabelled=st.integers(0, 9),
    n_official=st.sampled_from([0, 10]),
)
def test_image_folds_keep_every_promise(
    sizes: list[int], folds: int, n_unlabelled: int, n_official: int
) -> None:
    labels = np.repeat(np.arange(-1, len(sizes)), [n_unlabelled, *sizes])
    official = np.arange(len(labels) - n_official, len(labels))
    splits = image_splits(labels, official if n_official else None, folds=folds)
    assert len(splits) == folds
    for split in splits:
        parts = [split.train, split.validation, split.test]
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
        assert all((np.diff(part) > 0).all() for part in parts)
        assert np.array_equal(split.test, splits[0].test)
        assert (labels[split.validation] >= 0).all() and (labels[split.test] >= 0).all()
        assert np.array_equal(
            split.train_and_validation, np.setdiff1d(np.arange(len(labels)), split.test)
        )
        if n_official:
            assert np.array_equal(split.test, official)
    held_out = np.concatenate([split.validation for split in splits])
    assert len(set(held_out.tolist())) == len(held_out)
    if folds > 1:
        assert len(held_out) == (labels >= 0).sum() - len(splits[0].test)


def test_small_classes_are_held_out_by_chance_in_the_right_share() -> None:
    (split,) = image_splits(np.repeat(np.arange(500), 4))
    assert len(split.test) == pytest.approx(400, rel=0.1)
    assert len(split.validation) == pytest.approx(160, rel=0.2)


def test_images_are_split_alike_at_every_call_but_at_random() -> None:
    labels = np.zeros(100, dtype=int)
    first, second = (image_splits(labels)[0].validation for _ in range(2))
    assert np.array_equal(first, second)
    assert len(np.unique(np.diff(first))) > 2


def test_images_are_drawn_with_the_same_share_of_each_class() -> None:
    labels = np.repeat([0, 3, 7], [10, 30, 60])
    drawn = drawn_from_classes(labels, 50)
    assert np.bincount(labels[drawn])[[0, 3, 7]].tolist() == [5, 15, 30]
    assert (np.diff(drawn) > 0).all() and len(np.unique(np.diff(drawn))) > 2
    assert np.array_equal(drawn, drawn_from_classes(labels, 50))
    assert drawn_from_classes(labels, 101).tolist() == list(range(100))


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        (np.zeros(100), {"folds": 0}, "`folds` must be a whole number of at least 1"),
        (np.zeros(100), {"test_share": 1.0}, "`test_share` must be a number between"),
        (np.zeros(100), {"validation_share": 0.0}, "`validation_share` must be a number"),
        (np.zeros(3), {}, "`labels` must give an image or more to each"),
        (np.full(100, -1), {}, "0 images for the test and 0 others"),
        (np.zeros(100), {"test_images": np.arange(0)}, "0 images for the test and 100 others"),
        (np.zeros(100), {"test_images": np.arange(100)}, "100 images for the test and 0 others"),
    ],
)
def test_images_that_cannot_be_split_are_refused(
    labels: np.ndarray, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        image_splits(labels, **arguments)


def test_parts_must_not_share_images() -> None:
    with pytest.raises(ValueError, match="must not share images"):
        ImageSplit(np.array([0, 1]), np.array([2]), np.array([1]))
