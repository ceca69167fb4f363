from __future__ import annotations

from math import log

import pytest
from sklearn.cluster import KMeans
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cbal_optuna.evaluation import normalized_mutual_information


def overlapping_classes() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 9
    centres = torch.randn(9, 6, generator=generator)
    return centres[labels] + torch.randn(200, 6, generator=generator), labels


def test_clusters_that_are_the_classes_score_one() -> None:
    labels = torch.tensor([7, 7, -2, -2, 7, 5])
    directions = {7: [1.0, 0.0], -2: [0.0, 1.0], 5: [-1.0, 0.0]}
    embeddings = torch.tensor([directions[label] for label in labels.tolist()])
    embeddings += 0.01 * torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    assert normalized_mutual_information(embeddings, labels) == pytest.approx(1.0)


def test_two_clusters_of_three_to_one_agree_with_the_value_by_hand() -> None:
    embeddings = torch.tensor([[1.0, 0.01 * i] for i in range(4)] + [[-1.0, 0.0]] * 4)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    information = log(2) + 0.25 * log(0.25) + 0.75 * log(0.75)
    result = normalized_mutual_information(embeddings, labels)
    assert result == pytest.approx(information / log(2))


@pytest.mark.parametrize("seed", [0, 1])
def test_value_equals_that_of_pytorch_metric_learning_for_the_same_clusters(seed: int) -> None:
    accuracy_calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")

    def k_means(embeddings: Tensor, n_clusters: int) -> Tensor:
        model = KMeans(n_clusters, n_init=1, random_state=seed)
        return torch.from_numpy(model.fit_predict(normalize(embeddings).numpy()))

    embeddings, labels = overlapping_classes()
    theirs = accuracy_calculator.AccuracyCalculator(
        include=("NMI",),
        device=torch.device("cpu"),
        knn_func=lambda *_: None,
        kmeans_func=k_means,
    ).get_accuracy(embeddings, labels)["NMI"]
    ours = normalized_mutual_information(embeddings, labels, seed=seed)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_length_of_an_embedding_does_not_matter() -> None:
    embeddings, labels = overlapping_classes()
    lengths = torch.linspace(0.1, 10, len(labels))[:, None]
    expected = normalized_mutual_information(embeddings, labels)
    assert normalized_mutual_information(embeddings * lengths, labels) == pytest.approx(expected)


def test_seed_decides_the_result() -> None:
    values = [
        normalized_mutual_information(*overlapping_classes(), seed=seed) for seed in (0, 1, 2) * 2
    ]
    assert values[:3] == values[3:]
    assert len(set(values)) > 1


def test_embeddings_may_be_bfloat16_and_part_of_a_graph() -> None:
    embeddings, labels = overlapping_classes()
    embeddings = embeddings.bfloat16().requires_grad_()
    expected = normalized_mutual_information(embeddings.detach().float(), labels)
    assert normalized_mutual_information(embeddings, labels) == expected


@pytest.mark.parametrize(
    ("labels", "got"),
    [([0], "1 classes of 1"), ([4, 4, 4], "1 classes of 3"), ([0, 1, 2], "3 classes of 3")],
)
def test_labels_that_decide_the_result_alone_are_an_error(labels: list[int], got: str) -> None:
    embeddings = torch.eye(3)[: len(labels)]
    with pytest.raises(ValueError, match=f"`labels` must hold at least 2 classes .* got {got}"):
        normalized_mutual_information(embeddings, torch.tensor(labels))


def test_embeddings_that_are_not_finite_are_an_error() -> None:
    embeddings, labels = overlapping_classes()
    embeddings[3, 0] = torch.nan
    with pytest.raises(ValueError, match="`embeddings` must be finite, got 1 of 200 rows"):
        normalized_mutual_information(embeddings, labels)
