from __future__ import annotations

from typing import Any
import weakref

from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cbal_optuna.evaluation import retrieval
from cbal_optuna.evaluation import retrieval_metrics
from cbal_optuna.evaluation import RetrievalMetrics


def on_circle(*degrees: float, dtype: torch.dtype = torch.float64) -> Tensor:
    angles = torch.tensor(degrees, dtype=dtype).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def noisy_classes(
    sizes: list[int], seed: int = 0, dim: int = 8, noise: float = 1.5
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.randn(len(sizes), dim, generator=torch.Generator().manual_seed(99))
    return centres[labels] + noise * torch.randn(len(labels), dim, generator=generator), labels


def naive_metrics(
    queries: np.ndarray,
    labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    ks: tuple[int, ...],
    leave_one_out: bool,
) -> RetrievalMetrics:
    """One query at a time, the definitions word by word; matches last among equals."""
    average_precision, precision, recall = [], [], []
    for i, query in enumerate(queries):
        others = [j for j in range(len(gallery)) if not (leave_one_out and i == j)]
        similarity = gallery[others] @ query
        is_match = gallery_labels[others] == labels[i]
        hits = is_match[np.lexsort((is_match, -similarity))]
        r = hits.sum()
        if r == 0:
            continue
        average_precision.append(sum(hits[: p + 1].mean() for p in range(r) if hits[p]) / r)
        precision.append(hits[:r].mean())
        recall.append([hits[:k].any() for k in ks])
    return RetrievalMetrics(
        map_at_r=float(np.mean(average_precision)) if precision else 0.0,
        r_precision=float(np.mean(precision)) if precision else 0.0,
        recall=dict(zip(ks, np.mean(recall, axis=0).tolist(), strict=True)) if recall else {},
        n_queries=len(precision),
        n_excluded=len(queries) - len(precision),
    )


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors alive that were made inside it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self.sizes:
                storage = leaf.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.sizes.values()))
        return result


def test_query_and_gallery_agree_with_a_hand_computed_ranking() -> None:
    # Matches of the first query rank 1, 3, 5 (R = 3), those of the second 2, 4 (R = 2).
    metrics = retrieval_metrics(
        on_circle(0, 0),
        torch.tensor([0, 1]),
        on_circle(10, -20, 30, -40, 50),
        torch.tensor([0, 1, 0, 1, 0]),
        ks=(1, 2),
    )
    assert metrics.map_at_r == pytest.approx(((1 + 2 / 3) / 3 + (1 / 2) / 2) / 2)
    assert metrics.r_precision == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics.recall == {1: 0.5, 2: 1.0}
    assert (metrics.n_queries, metrics.n_excluded) == (2, 0)


def test_leave_one_out_agrees_with_a_hand_computed_ranking() -> None:
    # Classes along the circle: 0 0 1 0 1. Ranks of the matches, R = 2, 2, 1, 2, 1:
    # 0: (1, 3); 10: (1, 3); 25: (4); 45: (3, 4); 70: (2).
    metrics = retrieval_metrics(on_circle(0, 10, 25, 45, 70), torch.tensor([0, 0, 1, 0, 1]))
    assert metrics.map_at_r == pytest.approx((1 / 2 + 1 / 2 + 0 + 0 + 0) / 5)
    assert metrics.r_precision == pytest.approx((1 / 2 + 1 / 2 + 0 + 0 + 0) / 5)
    assert metrics.recall == pytest.approx({1: 0.4, 2: 0.6, 4: 1.0, 8: 1.0})


def test_map_at_r_divides_by_r_and_not_by_the_matches_found() -> None:
    labels = torch.tensor([0, 1, 0])
    metrics = retrieval_metrics(on_circle(0), labels[:1], on_circle(1, 2, 3), labels)
    assert metrics.map_at_r == pytest.approx(1 / 2)


def test_leave_one_out_excludes_the_query_and_not_its_duplicate() -> None:
    metrics = retrieval_metrics(on_circle(0, 0, 90), torch.tensor([0, 0, 1]))
    assert metrics.map_at_r == 1.0


def test_a_query_that_is_also_in_the_gallery_finds_itself() -> None:
    embeddings, labels = on_circle(0, 60, 90), torch.tensor([0, 1, 0])
    assert retrieval_metrics(embeddings, labels, embeddings, labels).recall[1] == 1.0
    assert retrieval_metrics(embeddings, labels).recall[1] == 0.0


@pytest.mark.parametrize("leave_one_out", [True, False])
def test_metrics_equal_those_of_pytorch_metric_learning(leave_one_out: bool) -> None:
    accuracy_calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    inference = pytest.importorskip("pytorch_metric_learning.utils.inference")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    queries, labels = noisy_classes([1, 90, 2, 3, 1, 17, 40, 5])
    gallery, gallery_labels = noisy_classes([1, 0, 60, 5, 2, 0, 80, 1], seed=1)
    references = (None, None) if leave_one_out else (gallery, gallery_labels)
    ours = retrieval_metrics(queries, labels, *references)
    theirs = accuracy_calculator.AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=inference.CustomKNN(distances.CosineSimilarity()),
    ).get_accuracy(queries, labels, *references)
    assert ours.n_excluded == (2 if leave_one_out else 107)
    assert {
        "precision_at_1": ours.recall[1],
        "r_precision": ours.r_precision,
        "mean_average_precision_at_r": ours.map_at_r,
    } == pytest.approx(theirs, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_metrics_equal_a_naive_loop(data: st.DataObject) -> None:
    n, m, dim, n_classes = (data.draw(st.integers(1, high)) for high in (9, 9, 3, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    leave_one_out, tied = data.draw(st.booleans()), data.draw(st.booleans())
    ks = tuple(data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True)))
    x, y = rng.normal(size=(n, dim)), rng.normal(size=(m, dim))
    if tied:  # similarities of axis vectors are exactly -1, 0 or 1
        axes = np.concatenate([np.eye(dim), -np.eye(dim)])
        x, y = axes[rng.integers(2 * dim, size=n)], axes[rng.integers(2 * dim, size=m)]
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    labels, gallery_labels = rng.integers(n_classes, size=n), rng.integers(n_classes, size=m)
    if leave_one_out:
        y, gallery_labels = x, labels
    expected = naive_metrics(x, labels, y, gallery_labels, ks, leave_one_out)
    assume(expected.n_queries > 0)
    tensors = [torch.from_numpy(a) for a in (x, labels, y, gallery_labels)]
    metrics = retrieval_metrics(*tensors[: 2 if leave_one_out else 4], ks=ks)
    assert metrics.map_at_r == pytest.approx(expected.map_at_r, abs=1e-6)
    assert metrics.r_precision == pytest.approx(expected.r_precision, abs=1e-6)
    assert metrics.recall == pytest.approx(expected.recall)
    assert (metrics.n_queries, metrics.n_excluded) == (expected.n_queries, expected.n_excluded)


def test_a_collapsed_embedding_scores_zero() -> None:
    collapsed = torch.tensor([[0.0, 2.0, 0.0]]).repeat(40, 1)
    metrics = retrieval_metrics(collapsed, torch.arange(40) // 4)
    assert (metrics.map_at_r, metrics.r_precision, metrics.recall[8]) == (0.0, 0.0, 0.0)


def test_order_of_tied_items_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.eye(4)[torch.randint(4, (60,), generator=generator)]
    labels = torch.randint(5, (60,), generator=generator)
    shuffled = torch.randperm(60, generator=generator)
    once = retrieval_metrics(embeddings, labels)
    again = retrieval_metrics(embeddings[shuffled], labels[shuffled])
    assert again.map_at_r == pytest.approx(once.map_at_r)
    assert again.recall == pytest.approx(once.recall)


@pytest.mark.parametrize("chunk_bytes", [1, 5_000, 100_000])
@pytest.mark.parametrize("separate_gallery", [True, False])
def test_result_does_not_depend_on_the_chunk_size(
    chunk_bytes: int, separate_gallery: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = [*noisy_classes([1, 90, 2, 30])]
    if separate_gallery:
        tensors += noisy_classes([7, 50, 0, 2], seed=1)
    whole = retrieval_metrics(*tensors)
    monkeypatch.setattr(retrieval, "CHUNK_BYTES", chunk_bytes)
    assert retrieval_metrics(*tensors) == whole


@pytest.mark.parametrize("sizes", [[2] * 1000, [1950] + [5] * 10], ids=["small", "one huge"])
def test_memory_stays_within_the_budget_and_some_vectors(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, labels = noisy_classes(sizes, dim=4)
    budget = 2**19
    monkeypatch.setattr(retrieval, "CHUNK_BYTES", budget)
    with LiveBytes() as live:
        retrieval_metrics(embeddings, labels)
    assert budget / 4 < live.peak < budget + 200 * len(labels)  # n x n floats: 16,000,000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    embeddings, labels = noisy_classes([20, 30, 40])
    embeddings = embeddings.to(dtype)
    assert retrieval_metrics(embeddings, labels) == retrieval_metrics(embeddings.float(), labels)


def test_autocast_changes_nothing() -> None:
    embeddings, labels = noisy_classes([20, 30, 40])
    expected = retrieval_metrics(embeddings, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert retrieval_metrics(embeddings, labels) == expected


def test_double_precision_is_kept() -> None:
    # The cosines of the two items differ by 4e-10 only, and the nearer one is the match.
    query, gallery = on_circle(0), on_circle(0.001, 0.002)
    metrics = retrieval_metrics(query, torch.tensor([0]), gallery, torch.tensor([0, 1]))
    assert metrics.recall[1] == 1.0


@pytest.mark.parametrize("exponent", [-30, 30])
def test_length_of_an_embedding_does_not_matter(exponent: int) -> None:
    embeddings, labels = noisy_classes([20, 30, 40])
    lengths = 10.0 ** (exponent * torch.rand(90, 1, generator=torch.Generator().manual_seed(0)))
    scaled = retrieval_metrics(embeddings * lengths, labels)
    assert scaled.map_at_r == pytest.approx(retrieval_metrics(embeddings, labels).map_at_r)


def test_recall_beyond_the_gallery_is_that_of_the_whole_gallery() -> None:
    embeddings, labels = noisy_classes([2, 3, 4])
    assert retrieval_metrics(embeddings, labels, ks=(8, 9, 10**6)).recall == {
        8: 1.0,
        9: 1.0,
        10**6: 1.0,
    }


def test_queries_without_a_match_are_excluded_and_counted() -> None:
    embeddings, labels = on_circle(0, 5, 90, 180), torch.tensor([3, 3, -7, 8])
    metrics = retrieval_metrics(embeddings, labels)
    assert (metrics.map_at_r, metrics.n_queries, metrics.n_excluded) == (1.0, 2, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu_wherever_labels_and_gallery_lie() -> None:
    queries, labels = noisy_classes([1, 90, 2, 30])
    gallery, gallery_labels = noisy_classes([7, 50, 0, 2], seed=1)
    expected = retrieval_metrics(queries, labels, gallery, gallery_labels)
    metrics = retrieval_metrics(queries.cuda(), labels, gallery, gallery_labels.cuda())
    assert metrics.map_at_r == pytest.approx(expected.map_at_r, abs=1e-6)
    assert metrics.recall == pytest.approx(expected.recall)


def test_no_query_with_a_match_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="`labels` must give .* got 3 queries and a match for none"
    ):
        retrieval_metrics(on_circle(0, 1, 2), torch.arange(3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_message_counts_the_embeddings_that_are_not_finite(value: float) -> None:
    embeddings, labels = noisy_classes([3, 3])
    embeddings[1] = embeddings[4, 0] = value
    with pytest.raises(ValueError, match="`embeddings` must be finite, got 2 of 6 rows"):
        retrieval_metrics(embeddings, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(4), torch.ones(4).long()), r"`embeddings` .*shape \(n, d\).*shape \(4,\)"),
        ((torch.ones(0, 2), torch.ones(0).long()), r"`embeddings` .*shape \(0, 2\)"),
        ((torch.ones(4, 2).long(), torch.ones(4).long()), "`embeddings` must be floats"),
        ((torch.ones(4, 2), torch.ones(3).long()), r"`labels` .*shape \(4,\).*shape \(3,\)"),
        ((torch.ones(4, 2), torch.ones(4)), "`labels` must be integers"),
        ((torch.ones(4, 2), torch.ones(4).long(), torch.ones(4, 2)), "got `gallery` alone"),
        (
            (torch.ones(4, 2), torch.ones(4).long(), None, torch.ones(4).long()),
            "got `gallery_labels` alone",
        ),
        (
            (torch.ones(4, 2), torch.ones(4).long(), torch.ones(5, 3), torch.ones(5).long()),
            "`gallery` must have the 2 columns of `embeddings`, got 3",
        ),
        (
            (torch.ones(4, 2), torch.ones(4).long(), torch.ones(5, 2), torch.ones(4).long()),
            r"`gallery_labels` must be integers of shape \(5,\)",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(*arguments)


@pytest.mark.parametrize("ks", [(), (0,), (4, -1)])
def test_ks_must_be_positive(ks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="`ks` must hold"):
        retrieval_metrics(*noisy_classes([3, 3]), ks=ks)
