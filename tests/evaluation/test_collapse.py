from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cbal_optuna.evaluation import embedding_spread


def normal(n: int = 4000, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_they_are_means_over_pairs_of_cosines() -> None:
    embeddings = normal(20, 5) + 1
    cosines = torch.nn.functional.cosine_similarity(embeddings[:, None], embeddings, dim=2)
    found = embedding_spread(embeddings)
    assert found.spread == pytest.approx(1 - cosines.mean().item(), abs=1e-6)
    assert found.effective_rank == pytest.approx(1 / cosines.square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("width", [2, 8, 64])
def test_directions_that_are_used_alike_are_counted(width: int) -> None:
    found = embedding_spread(normal(width=width))
    assert found.effective_rank == pytest.approx(width, rel=0.05)
    assert found.spread == pytest.approx(1, abs=0.01)
    assert not found.collapsed


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_a_point_is_collapsed_whatever_the_lengths(noise: float) -> None:
    embeddings = torch.arange(1.0, 9.0) + noise * normal()
    found = embedding_spread(embeddings * torch.rand(len(embeddings), 1).add(0.1))
    assert found.collapsed
    assert found.spread < 0.01 and 1 <= found.effective_rank < 1.01


def test_two_opposite_points_are_collapsed_for_all_their_spread() -> None:
    found = embedding_spread(torch.tensor([[1.0, 2.0], [-2.0, -4.0]]))
    assert found.collapsed
    assert found.spread == pytest.approx(1) and found.effective_rank == pytest.approx(1)


def test_a_few_clusters_are_not_collapsed() -> None:
    clusters = torch.eye(8)[:3].repeat(50, 1) + 0.05 * normal(150)
    found = embedding_spread(clusters)
    assert not found.collapsed
    assert found.effective_rank == pytest.approx(3, rel=0.1)


def test_nothing_but_zeros_is_collapsed() -> None:
    assert embedding_spread(torch.zeros(10, 3)).collapsed


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="`embeddings` must be finite"):
        embedding_spread(torch.full((3, 4), torch.inf))
