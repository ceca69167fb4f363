from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cbal_optuna.data import LabelledImages
from cbal_optuna.evaluation import retrieval_metrics
from cbal_optuna.pictures import Embedded
from cbal_optuna.pictures.retrieval_sheet import MOST_QUERIES
from cbal_optuna.pictures.retrieval_sheet import N_FOUND
from cbal_optuna.pictures.retrieval_sheet import searches


def similarity(images: Embedded) -> torch.Tensor:
    unit = torch.nn.functional.normalize(images.embeddings)
    return unit @ unit.T


def test_a_query_finds_the_most_similar_of_the_others(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    images = embedded(1.0)
    expected = similarity(images).fill_diagonal_(-2).topk(N_FOUND)
    found = searches(images, None, colours.labels)
    assert len(found) == MOST_QUERIES
    for search in found:
        assert [f.item for f in search.found] == expected.indices[search.query].tolist()
        cosines = [f.similarity for f in search.found]
        assert cosines == pytest.approx(expected.values[search.query].tolist(), abs=1e-4)
        for f in search.found:
            assert f.right == (colours.labels[f.item] == colours.labels[search.query])


def test_right_nearest_neighbours_are_those_that_recall_counts(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    images = embedded(1.0).of(np.arange(40))
    found = searches(images, None, colours.labels)
    metrics = retrieval_metrics(images.embeddings, torch.from_numpy(colours.labels[:40]), ks=(1,))
    assert 0 < metrics.recall[1] < 1
    assert np.mean([s.is_right for s in found]) == pytest.approx(metrics.recall[1])


def test_items_are_those_of_the_data_set_and_of_the_gallery(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    queries, gallery = embedded(items=np.arange(1, 120, 7)), embedded(items=np.arange(0, 120, 5))
    found = searches(queries, gallery, colours.labels)
    assert {s.query for s in found} <= set(queries.items.tolist())
    assert {f.item for s in found for f in s.found} <= set(gallery.items.tolist())


def test_an_image_may_find_itself_in_a_gallery_that_has_it(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    images = embedded()
    found = searches(images, images, colours.labels)
    assert all(s.found[0].item == s.query for s in found)


def test_queries_are_of_all_classes_in_turn_and_the_same_for_every_model(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    good, bad = (searches(embedded(noise), None, colours.labels) for noise in (0.0, 10.0))
    assert [s.query for s in good] == [s.query for s in bad]
    counts = Counter(int(colours.labels[s.query]) for s in good)
    assert len(counts) == colours.n_classes and max(counts.values()) - min(counts.values()) <= 1


def test_who_has_no_match_asks_nothing(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    # One image of the last class, all of the first two.
    images = embedded(items=np.array([*range(20), 119]))
    found = searches(images, None, colours.labels)
    assert sorted(s.query for s in found) == list(range(20))
    alone = embedded(items=np.arange(0, 120, 10))
    assert searches(alone, None, colours.labels) == []


def test_a_small_gallery_is_found_as_a_whole(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    found = searches(embedded(items=np.arange(3)), None, colours.labels)
    assert [len(s.found) for s in found] == [2, 2, 2]
