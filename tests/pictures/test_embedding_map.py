from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
import torch

from cbal_optuna.data import LabelledImages
from cbal_optuna.pictures import Embedded
from cbal_optuna.pictures.embedding_map import embedding_map
from cbal_optuna.pictures.embedding_map import MOST_CLASSES
from cbal_optuna.pictures.embedding_map import MOST_IMAGES


def test_classes_apart_in_space_are_apart_on_the_map(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    drawn = embedding_map(embedded(), colours.labels)
    places = np.transpose(drawn.tsne)
    neighbours = KNeighborsClassifier(3).fit(places, drawn.labels)
    assert neighbours.score(places, drawn.labels) > 0.95
    assert 0 < drawn.variance < 1


def test_principal_directions_are_those_of_unit_vectors() -> None:
    angles = np.linspace(0, 1, 9)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(9)], 1)
    lengths = torch.linspace(1, 5, 9)[:, None]
    images = Embedded(np.arange(9), torch.from_numpy(circle).float() * lengths)
    drawn = embedding_map(images, np.zeros(9, dtype=np.int64))
    assert drawn.variance == pytest.approx(1.0)
    along = np.array(drawn.pca[0])
    assert np.all(np.diff(along) > 0) or np.all(np.diff(along) < 0)
    assert [along.min(), along.max()] == pytest.approx([-1, 1], abs=2e-3)


@pytest.mark.parametrize("kind", ["pca", "tsne"])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("collapsed", [True, False])
def test_few_and_collapsed_embeddings_have_a_place_on_the_map(
    n: int, collapsed: bool, kind: str
) -> None:
    embeddings = torch.ones(n, 4) if collapsed else torch.eye(5)[:n]
    drawn = embedding_map(Embedded(np.arange(n), embeddings), np.arange(n))
    places = np.array(getattr(drawn, kind))
    assert places.shape == (2, n)
    assert np.isfinite(places).all() and np.abs(places).max() <= 1
    assert 0 <= drawn.variance <= 1 + 1e-9


def test_embeddings_of_one_dimension_have_a_map() -> None:
    images = Embedded(np.arange(4), torch.tensor([[1.0], [-1.0], [2.0], [-3.0]]))
    drawn = embedding_map(images, np.arange(4))
    assert drawn.pca[1] == [0.0] * 4


def test_a_map_of_many_images_is_of_some_and_the_same_for_every_model() -> None:
    labels = np.repeat(np.arange(3 * MOST_CLASSES), 60)
    embeddings = torch.randn(2, len(labels), 3, generator=torch.Generator().manual_seed(0))
    items = np.arange(len(labels))
    first, second = (embedding_map(Embedded(items, own), labels) for own in embeddings)
    assert first.labels == second.labels
    assert len(set(first.labels)) == MOST_CLASSES and len(first.labels) == MOST_IMAGES
    assert first.tsne != second.tsne


def test_a_map_comes_out_the_same_again(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    again = [embedding_map(embedded(), colours.labels) for _ in range(2)]
    assert again[0] == again[1]
