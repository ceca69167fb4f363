from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from cbal_optuna.data import class_splits
from cbal_optuna.data import ClassSplit
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
