from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
import torch
from torch import Tensor

from cbal_optuna.evaluation import knn
from cbal_optuna.evaluation import knn_accuracy


def items(n: int, seed: int, n_classes: int = 5, width: int = 8) -> tuple[Tensor, Tensor]:
    """Features around the centres of their classes, with overlaps."""
    centres = torch.randn(n_classes, width, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    return centres[labels] + torch.randn(n, width, generator=generator), labels


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (20, 0.5), (60, 0.01)])
def test_accuracy_is_that_of_scikit_learn(k: int, temperature: float) -> None:
    (queries, labels), (gallery, known) = items(200, seed=1), items(150, seed=2)
    theirs = KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp(-distance / temperature)
    ).fit(gallery.double().numpy(), known.numpy())
    accuracy = knn_accuracy(queries, labels, gallery, known, k=k, temperature=temperature)
    expected = theirs.score(queries.double().numpy(), labels.numpy())
    assert accuracy == pytest.approx(expected, abs=1e-9)
    assert 0.3 < accuracy < 0.95


def test_a_small_gallery_votes_as_a_whole() -> None:
    (queries, labels), (gallery, known) = items(50, seed=1), items(12, seed=2)
    all_of_them = knn_accuracy(queries, labels, gallery, known, k=12)
    assert knn_accuracy(queries, labels, gallery, known, k=1000) == all_of_them


def test_a_nearer_neighbour_outvotes_two_distant_ones() -> None:
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1], [0.0, 1.0], [0.0, 2.0]])
    classes = torch.tensor([4, 9, 9])
    assert knn_accuracy(query, torch.tensor([4]), gallery, classes, temperature=0.07) == 1.0
    assert knn_accuracy(query, torch.tensor([9]), gallery, classes, temperature=100.0) == 1.0


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    (queries, labels), (gallery, known) = items(53, seed=1), items(70, seed=2)
    whole = knn_accuracy(queries, labels, gallery, known)
    monkeypatch.setattr(knn, "CHUNK_BYTES", 3000)
    assert knn_accuracy(queries, labels, gallery, known) == whole


def test_lengths_and_the_lowest_temperature_do_no_harm() -> None:
    (queries, labels), (gallery, known) = items(50, seed=1), items(70, seed=2)
    scaled = 1e-30 * queries.double()
    nearest = knn_accuracy(queries, labels, gallery, known, k=1)
    assert knn_accuracy(scaled, labels, 1e20 * gallery, known, temperature=1e-6) == nearest


def test_a_class_that_the_gallery_lacks_is_never_right() -> None:
    queries, _ = items(10, seed=1)
    gallery, known = items(30, seed=2)
    assert knn_accuracy(queries, torch.full((10,), 77), gallery, known) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "`k` must be at least 1, got 0"),
        ({"temperature": 0.0}, "`temperature` must be above 0, got 0.0"),
        ({"features": torch.full((3, 4), torch.nan)}, "`embeddings` must be finite"),
        ({"gallery": torch.zeros(3, 5)}, "`gallery` must have the 4 columns"),
        ({"gallery_labels": torch.zeros(2)}, "`gallery_labels` must be integers of shape"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    good = {
        "features": torch.ones(3, 4),
        "labels": torch.arange(3),
        "gallery": torch.ones(3, 4),
        "gallery_labels": torch.arange(3),
    }
    with pytest.raises(ValueError, match=message):
        knn_accuracy(**{**good, **change})  # type: ignore[arg-type]
