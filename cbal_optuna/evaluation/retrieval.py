"""Recall@k, R-precision and MAP@R by exact cosine search, in memory linear in the number of items.

A query has R matches in the gallery: the items of its class. With r_1 < r_2 < ... their ranks,

    Recall@k    = 1 if r_1 <= k else 0
    R-precision = |{j : r_j <= R}| / R
    MAP@R       = 1 / R * sum over {j : r_j <= R} of j / r_j

and each is averaged over the queries (Musgrave, Belongie and Lim, 'A Metric Learning Reality
Check', 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cbal_optuna.evaluation.exact_search import ExactSearch


# 30,000 items on one CPU thread take 1.8 s with 16, 32 or 64 MiB, 2.0 s with 4.
CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class RetrievalMetrics:
    """Means over the queries that have a match in the gallery, each in [0, 1].

    Attributes:
        map_at_r: Mean average precision at R.
        r_precision: Precision among the R nearest items.
        recall: Recall@k by k: the share of queries with a match among the k nearest items.
        n_queries: Number of queries evaluated.
        n_excluded: Number of queries left out, having no match in the gallery.
    """

    map_at_r: float
    r_precision: float
    recall: dict[int, float]
    n_queries: int
    n_excluded: int


def retrieval_metrics(
    embeddings: Tensor,
    labels: Tensor,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> RetrievalMetrics:
    """Search the gallery with every query by cosine similarity and score the rankings.

    The search is exact, runs on the embeddings' device and computes in their precision, but at
    least in float32, under autocast as well. TF32 and the like apply where the program has
    allowed them by ``torch.set_float32_matmul_precision``.

    At equal similarity an item of another class ranks before a match. So a collapsed embedding
    scores 0, and the order of the items does not matter.

    Args:
        embeddings: Queries, shape (n, d), of any length: they are normalised here.
        labels: Their classes, integers of shape (n,).
        gallery: Items to search, shape (m, d). Without it every query searches all the others
            (leave-one-out). An item that is in both ``embeddings`` and ``gallery`` finds itself.
        gallery_labels: Classes of the gallery's items, integers of shape (m,).
        ks: The k of Recall@k. A k beyond the size of the gallery stands for the whole gallery,
            where recall is 1.

    Returns:
        The means over the queries that have a match, and the number of those that have none.

    Raises:
        ValueError: If shapes or types do not fit, an embedding is not finite, a k is not
            positive, or no query has a match.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"`ks` must hold one positive integer or more, got {tuple(ks)}.")
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        queries = unit_embeddings(embeddings, labels)
        items, item_labels = queries, labels
        if gallery is not None or gallery_labels is not None:
            items, item_labels = checked_gallery(queries, gallery, gallery_labels)
        search = ExactSearch.of(
            queries, labels, items, item_labels, leave_one_out=gallery is None, k=max(ks)
        )
        evaluated = search.n_matches > 0
        if not evaluated.any():
            raise ValueError(
                f"`labels` must give a query or more a match in the gallery, got {len(labels)} "
                "queries and a match for none."
            )
        # Filled in place: small results kept from each chunk would fragment the CPU's heap.
        scores = torch.empty(3, len(labels), device=embeddings.device)
        for rows, ranks in search.ranks(CHUNK_BYTES):
            scores[:, rows] = _score(ranks, search.n_matches[rows])
        map_at_r, r_precision, first_rank = scores[:, evaluated].cpu().double()
    return RetrievalMetrics(
        map_at_r=map_at_r.mean().item(),
        r_precision=r_precision.mean().item(),
        recall={k: (first_rank <= k).double().mean().item() for k in ks},
        n_queries=len(first_rank),
        n_excluded=len(labels) - len(first_rank),
    )


def _score(ranks: Tensor, n_matches: Tensor) -> Tensor:
    """Average precision at R, R-precision and the first match's rank of each query, as rows."""
    found = ranks <= n_matches[:, None]
    position = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    average_precision = (position / ranks).where(found, 0).sum(dim=1) / n_matches
    return torch.stack([average_precision, found.sum(dim=1) / n_matches, ranks[:, 0]])


def unit_embeddings(
    embeddings: Tensor,
    labels: Tensor | None = None,
    name: str = "embeddings",
    labels_name: str = "labels",
) -> Tensor:
    """Check embeddings, as `check_embeddings` does, and scale them to unit length.

    Returns:
        The unit vectors, at least in float32; a zero vector stays zero.
    """
    check_embeddings(embeddings, labels, name, labels_name)
    vectors = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    largest = vectors.abs().amax(dim=1, keepdim=True)  # the squares of large values overflow
    return normalize(vectors / largest.where(largest > 0, 1))


def check_embeddings(
    embeddings: Tensor,
    labels: Tensor | None = None,
    name: str = "embeddings",
    labels_name: str = "labels",
) -> None:
    """Check embeddings, and their labels if there are any.

    Args:
        embeddings: Finite vectors, shape (n, d).
        labels: Integers, shape (n,).
        name: The argument that holds the embeddings, for messages.
        labels_name: The argument that holds the labels, for messages.

    Raises:
        ValueError: If a shape, a type or a value does not fit.
    """
    if embeddings.ndim != 2 or 0 in embeddings.shape or not embeddings.is_floating_point():
        raise ValueError(
            f"`{name}` must be floats of shape (n, d) with n and d at least 1, got "
            f"{embeddings.dtype} of shape {tuple(embeddings.shape)}."
        )
    if labels is not None and (labels.shape != embeddings.shape[:1] or labels.is_floating_point()):
        raise ValueError(
            f"`{labels_name}` must be integers of shape ({len(embeddings)},), one for each of "
            f"`{name}`, got {labels.dtype} of shape {tuple(labels.shape)}."
        )
    n_bad = len(embeddings) - int(embeddings.isfinite().all(dim=1).sum())
    if n_bad:
        raise ValueError(
            f"`{name}` must be finite, got {n_bad} of {len(embeddings)} rows that are not."
        )


def checked_gallery(
    queries: Tensor, gallery: Tensor | None, gallery_labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gallery as unit vectors of the queries' type and device, and its labels."""
    if gallery is None or gallery_labels is None:
        given = "gallery_labels" if gallery is None else "gallery"
        raise ValueError(
            f"`gallery` and `gallery_labels` must be given together, got `{given}` alone."
        )
    items = unit_embeddings(gallery, gallery_labels, "gallery", "gallery_labels")
    if items.shape[1] != queries.shape[1]:
        raise ValueError(
            f"`gallery` must have the {queries.shape[1]} columns of `embeddings`, got "
            f"{items.shape[1]}."
        )
    return items.to(queries), gallery_labels
