"""Accuracy of the nearest neighbours' votes: how well features tell classes, without training."""

from __future__ import annotations

import torch
from torch import Tensor

from cbal_optuna.evaluation.retrieval import checked_gallery
from cbal_optuna.evaluation.retrieval import CHUNK_BYTES
from cbal_optuna.evaluation.retrieval import unit_embeddings


def knn_accuracy(
    features: Tensor,
    labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Classify each item by its nearest neighbours in the gallery, and give the share that is
    right.

    The k items of highest cosine similarity s vote for their classes with weight
    exp(s / temperature), as in Wu et al., 'Unsupervised Feature Learning via Non-Parametric
    Instance Discrimination' (2018). The search is exact, on the features' device and at least in
    float32. Equal votes go to the class of the lowest label.

    Args:
        features: Items to classify, shape (n, d), of any length: they are normalised here.
        labels: Their classes, integers of shape (n,).
        gallery: Items whose classes are known, shape (m, d).
        gallery_labels: Their classes, integers of shape (m,).
        k: Number of neighbours; all of them where the gallery has fewer.
        temperature: The lower, the less distant neighbours count; above 0.

    Returns:
        The share, from 0 to 1.

    Raises:
        ValueError: If shapes or types do not fit, a feature is not finite, or an argument is out
            of its range.
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        queries = unit_embeddings(features, labels)
        items, item_labels = checked_gallery(queries, gallery, gallery_labels)
        names, classes = item_labels.to(queries.device).unique(return_inverse=True)
        k = min(k, len(items))
        n_right = 0
        chunk = max(1, CHUNK_BYTES // (items.itemsize * (len(items) + len(names) + 4 * k)))
        for rows, wanted in zip(queries.split(chunk), labels.to(queries.device).split(chunk)):
            similarity, neighbours = (rows @ items.T).topk(k)
            # Less the largest, which changes no vote: e to the power of 1 / temperature may be
            # too large.
            weights = ((similarity - similarity[:, :1]) / temperature).exp()
            votes = weights.new_zeros(len(rows), len(names))
            votes.scatter_add_(1, classes[neighbours], weights)
            n_right += int((names[votes.argmax(dim=1)] == wanted).sum())
    return n_right / len(queries)
