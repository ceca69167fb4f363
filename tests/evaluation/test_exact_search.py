from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cbal_optuna.evaluation.exact_search import ExactSearch


def small_classes(n: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n // 4, (n,), generator=generator)
    centres = torch.randn(n // 4, 16, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(n, 16, generator=generator)
    return normalize(centres[labels] + noise).to(dtype), labels


def search_of(queries: Tensor, labels: Tensor, *gallery: Tensor, k: int = 5) -> ExactSearch:
    items, item_labels = gallery or (queries, labels)
    return ExactSearch.of(queries, labels, items, item_labels, leave_one_out=not gallery, k=k)


def ranks_by_tiles(search: ExactSearch, side: int, n_rivals: int) -> dict[int, list[int]]:
    """Up to the number of rivals kept, by query."""
    return {
        row: [rank for rank in ranks if rank <= n_rivals]
        for rows, found in search._ranks_by_tiles(side, n_rivals)
        for row, ranks in zip(rows.tolist(), found.tolist(), strict=True)
    }


@pytest.mark.parametrize("side", [1, 7, 64, 1000])
@pytest.mark.parametrize("separate_gallery", [True, False])
def test_tiles_rank_as_sorting_one_query_after_the_other_does(
    side: int, separate_gallery: bool
) -> None:
    queries, labels = small_classes(90, seed=0, dtype=torch.float64)
    gallery = small_classes(110, seed=1, dtype=torch.float64) if separate_gallery else ()
    search = search_of(queries, labels, *gallery)
    n_rivals = max(5, int(search.n_matches.max()))
    items, item_labels = gallery or (queries, labels)
    expected = {}
    for i, similarity in enumerate(queries @ items.T):
        others = torch.ones(len(items), dtype=torch.bool)
        others[i] = separate_gallery
        is_match = item_labels[others] == labels[i]
        ranking = is_match[similarity[others].argsort(descending=True)]
        if is_match.any():
            ranks = ranking.nonzero()[:, 0] + 1
            expected[i] = ranks[ranks <= n_rivals].tolist()
    assert ranks_by_tiles(search, side, n_rivals) == expected


@pytest.mark.parametrize("dim", [3, 64, 129, 515])
def test_equal_items_tie_whatever_tiles_they_lie_in(dim: int) -> None:
    vector = normalize(torch.randn(1, dim, generator=torch.Generator().manual_seed(0)))
    search = search_of(vector.repeat(300, 1), torch.arange(300) // 3)
    assert set(map(tuple, ranks_by_tiles(search, 32, 5).values())) == {()}


def test_many_items_in_small_classes_are_ranked_by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noted(search: ExactSearch, side: int, n_rivals: int) -> Iterator[tuple[Tensor, Tensor]]:
        seen.append(side)
        return iter(())

    monkeypatch.setattr(ExactSearch, "_ranks_by_tiles", noted)
    for chunk_bytes in (100, 2**17, 2**22):  # too little to keep rivals, enough, one tile
        list(search_of(*small_classes(1500, seed=0), k=1).ranks(chunk_bytes))
    assert seen == [64]
