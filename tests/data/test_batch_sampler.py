from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from cbal_optuna.data import MPerClassBatchSampler
from cbal_optuna.data import ViewBatchSampler


SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=12)


def labels_of_sizes(sizes: list[int]) -> np.ndarray:
    """Shuffled labels, class c standing sizes[c] times; they neither begin at 0 nor are dense."""
    return np.random.default_rng(1).permutation(np.repeat(3 * np.arange(len(sizes)) + 5, sizes))


def batches_of(
    labels: np.ndarray, n_groups: int, m: int, n_batches: int, seed: int = 0
) -> list[np.ndarray]:
    sampler = MPerClassBatchSampler(
        labels,
        batch_size=n_groups * m,
        images_per_class=m,
        n_batches=n_batches,
        generator=np.random.default_rng(seed),
    )
    return list(sampler)


def spread(counts: Counter[int], keys: np.ndarray) -> int:
    """How many more times the most frequent key was seen than the least frequent one."""
    seen = [counts[key] for key in keys.tolist()]
    return max(seen) - min(seen)


def groups_of(batch: np.ndarray, m: int) -> list[list[int]]:
    return batch.reshape(-1, m).tolist()


@given(sizes=SIZES, n_groups=st.integers(2, 20), m=st.integers(1, 6), seed=st.integers(0, 9))
def test_batches_keep_every_promise(sizes: list[int], n_groups: int, m: int, seed: int) -> None:
    labels = labels_of_sizes(sizes)
    assume(n_groups <= len(sizes) or n_groups * m <= len(labels))
    classes = np.unique(labels)
    visits: Counter[int] = Counter()
    uses: Counter[int] = Counter()
    batches = batches_of(labels, n_groups, m, n_batches=15, seed=seed)
    assert len(batches) == 15
    for batch in batches:
        assert batch.dtype == np.int64
        assert batch.shape == (n_groups * m,)
        groups = groups_of(batch, m)
        assert all(len(set(labels[group])) == 1 for group in groups)
        groups_of_class = Counter(labels[[group[0] for group in groups]].tolist())
        assert spread(groups_of_class, classes) <= 1
        visits += groups_of_class
        uses.update(batch.tolist())
        # Rounds: whenever one is complete, all classes have been visited equally often.
        assert spread(visits, classes) <= 1
        for label in classes.tolist():
            images = np.flatnonzero(labels == label)
            assert spread(uses, images) <= 1
            in_batch = Counter(batch[labels[batch] == label].tolist())
            assert spread(in_batch, images) <= 1
        for group in groups:
            size = np.count_nonzero(labels == labels[group[0]])
            assert len(set(group)) == min(m, size)


@given(n_classes=st.integers(2, 12), n_groups=st.integers(2, 12), seed=st.integers(0, 9))
def test_no_class_stands_twice_in_a_batch_even_where_two_rounds_meet(
    n_classes: int, n_groups: int, seed: int
) -> None:
    assume(n_groups <= n_classes)
    labels = np.repeat(np.arange(n_classes), 3)
    for batch in batches_of(labels, n_groups, m=2, n_batches=20, seed=seed):
        assert len(set(labels[batch])) == n_groups


@pytest.mark.parametrize(("n_classes", "n_groups"), [(5, 3), (3, 3), (3, 7), (60, 8)])
def test_every_round_visits_every_class_once(n_classes: int, n_groups: int) -> None:
    labels = np.repeat(np.arange(n_classes), 20)
    visited = Counter[int]()
    for number, batch in enumerate(batches_of(labels, n_groups, 2, n_batches=100), start=1):
        visited.update(labels[batch[::2]].tolist())
        rounds, begun = divmod(number * n_groups, n_classes)
        expected = {rounds, rounds + 1} if begun else {rounds}
        assert {visited[label] for label in range(n_classes)} == expected


def test_several_groups_of_a_class_hold_different_images() -> None:
    labels = np.repeat([0, 1, 2], [16, 17, 30])
    for batch in batches_of(labels, n_groups=12, m=4, n_batches=30):
        assert len(set(batch.tolist())) == 48


def test_class_with_fewer_images_than_m_repeats_them_evenly() -> None:
    labels = np.repeat([0, 1, 2], [1, 3, 9])
    for batch in batches_of(labels, n_groups=3, m=4, n_batches=10):
        for group in groups_of(batch, 4):
            most_to_least = sorted(Counter(group).values(), reverse=True)
            assert most_to_least == {0: [4], 1: [2, 1, 1], 2: [1] * 4}[labels[group[0]]]


def test_rounds_are_shuffled() -> None:
    labels = np.repeat(np.arange(8), 8)
    batches = batches_of(labels, n_groups=8, m=4, n_batches=20)
    assert len({tuple(labels[batch[::4]]) for batch in batches}) == 20
    first_class = {tuple(np.sort(batch[labels[batch] == 0])) for batch in batches}
    assert len(first_class) > 10


def test_classes_follow_each_other_in_any_order() -> None:
    labels = np.repeat(np.arange(5), 4)
    order = [labels[group[0]] for b in batches_of(labels, 2, 2, 400) for group in groups_of(b, 2)]
    assert len(Counter(pairwise(order))) >= 20


def test_same_generator_state_gives_the_same_batches() -> None:
    labels = labels_of_sizes([5, 8, 3, 9])
    one, other = (batches_of(labels, 3, 4, n_batches=12, seed=7) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, batches_of(labels, 3, 4, n_batches=12, seed=8))


def test_next_iteration_draws_other_batches() -> None:
    sampler = MPerClassBatchSampler(
        labels_of_sizes([9, 9, 9, 9]),
        batch_size=12,
        n_batches=5,
        generator=np.random.default_rng(0),
    )
    assert not np.array_equal(list(sampler), list(sampler))


def test_length_is_the_number_of_batches() -> None:
    sampler = MPerClassBatchSampler(
        labels_of_sizes([4, 4]), batch_size=8, n_batches=3, generator=np.random.default_rng(0)
    )
    assert len(sampler) == len(list(sampler)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10}, "`batch_size` must be a multiple of images_per_class=4"),
        ({"batch_size": 4}, "`batch_size` must be .* at least twice that, got 4"),
        ({"batch_size": 0}, "`batch_size` must be .* at least twice that, got 0"),
        ({"images_per_class": 0}, "`images_per_class` must be at least 1, got 0"),
        ({"n_batches": -1}, "`n_batches` must not be negative, got -1"),
        ({"labels": np.zeros(9, int)}, "`labels` must have at least two classes, got 1"),
        ({"labels": np.zeros(0, int)}, "`labels` must have at least two classes, got 0"),
        ({"batch_size": 12}, "too few images: `batch_size` .* the 10 images .* got 12"),
    ],
)
def test_argument_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "labels": np.repeat([0, 1], 5),
        "batch_size": 8,
        "n_batches": 1,
    } | options
    with pytest.raises(ValueError, match=message):
        MPerClassBatchSampler(**arguments, generator=np.random.default_rng(0))


def test_batch_may_be_as_large_as_the_data_set() -> None:
    labels = np.repeat([0, 1], 8)
    (batch,) = batches_of(labels, n_groups=4, m=4, n_batches=1)
    assert sorted(batch.tolist()) == list(range(16))


# Views


def views_of(n_images: int, batch_size: int, n_batches: int, seed: int = 0) -> list[np.ndarray]:
    sampler = ViewBatchSampler(
        n_images,
        batch_size=batch_size,
        n_batches=n_batches,
        generator=np.random.default_rng(seed),
    )
    return list(sampler)


@given(n_images=st.integers(2, 40), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_views_stand_side_by_side_and_an_epoch_covers_all_images(
    n_images: int, share: float, seed: int
) -> None:
    batch_size = 2 + int(share * (n_images - 2))
    batches = views_of(n_images, batch_size, n_batches=12, seed=seed)
    assert len(batches) == 12
    seen: Counter[int] = Counter()
    for batch in batches:
        assert batch.dtype == np.int64
        first, second = batch.reshape(batch_size, 2).T
        assert np.array_equal(first, second)
        assert len(set(first.tolist())) == batch_size
        seen.update(first.tolist())
        assert spread(seen, np.arange(n_images)) <= 1


def test_epochs_have_another_order_each() -> None:
    first, second = views_of(64, 64, 2)
    assert not np.array_equal(first, second)


def test_the_generator_decides_on_views() -> None:
    assert np.array_equal(views_of(9, 4, 5, seed=1), views_of(9, 4, 5, seed=1))
    assert not np.array_equal(views_of(9, 4, 5, seed=1), views_of(9, 4, 5, seed=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 0}, "`views` must be at least 1, got 0"),
        ({"n_batches": -1}, "`n_batches` must not be negative, got -1"),
        ({"batch_size": 1}, "`batch_size` must be from 2 to the number of images, 9, got 1"),
        ({"batch_size": 10}, "`batch_size` must be from 2 to the number of images, 9, got 10"),
    ],
)
def test_views_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    good = {"batch_size": 4, "n_batches": 1, "generator": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=message):
        ViewBatchSampler(9, **{**good, **change})
