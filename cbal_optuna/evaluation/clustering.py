"""Agreement between classes and the clusters of an embedding."""

from __future__ import annotations

from math import log

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
import torch
from torch import Tensor

from cbal_optuna.evaluation.retrieval import unit_embeddings


def normalized_mutual_information(embeddings: Tensor, labels: Tensor, *, seed: int = 0) -> float:
    """Cluster by k-means into as many clusters as there are classes and compare the two.

    scikit-learn's k-means runs once, on the CPU, on the embeddings scaled to unit length. Its
    first centres are those of greedy k-means++ (Arthur and Vassilvitskii, 'k-means++: the
    advantages of careful seeding', 2007) drawn with ``seed``, as scikit-learn's are, but found by
    cosines, which takes a fraction of its time. The time grows with items times classes.

    Args:
        embeddings: Shape (n, d), of any length.
        labels: Classes, integers of shape (n,), 2 to n - 1 of them distinct.
        seed: Seed of the first centres.

    Returns:
        Mutual information over the mean of the two entropies: 0 for independence, 1 for clusters
        that are the classes.

    Raises:
        ValueError: If shapes or types do not fit, an embedding is not finite, or the number of
            classes is 1 or n, where the result would be 1 whatever the embedding.
    """
    vectors = unit_embeddings(embeddings.detach(), labels).cpu()
    n_classes = len(torch.unique(labels))
    if not 1 < n_classes < len(labels):
        raise ValueError(
            "`labels` must hold at least 2 classes and fewer classes than items, got "
            f"{n_classes} classes of {len(labels)} items."
        )
    with torch.autocast("cpu", enabled=False):
        centres = vectors[_first_centres(vectors, n_classes, seed)]
    kmeans = KMeans(n_classes, init=centres.numpy(), n_init=1, random_state=seed)
    clusters = kmeans.fit_predict(vectors.numpy())
    return float(normalized_mutual_info_score(labels.cpu().numpy(), clusters))


def _first_centres(vectors: Tensor, n_clusters: int, seed: int) -> list[int]:
    """Rows of unit vectors drawn one by one in proportion to the squared distance from those
    before.

    Each is the best of a few drawn: the one that leaves the least sum of squared distances, which
    are 2 less twice the cosines.
    """
    random = np.random.RandomState(seed)
    n_drawn = 2 + int(log(n_clusters))
    rows = [int(random.uniform() * len(vectors))]
    nearest = vectors @ vectors[rows[0]]
    nearest[rows[0]] = 1
    cosines = vectors.new_empty(n_drawn, len(vectors))
    while len(rows) < n_clusters:
        mass = (1 - nearest).clamp_(min=0).cumsum(dim=0, dtype=torch.float64)
        drawn = np.searchsorted(mass.numpy(), random.uniform(size=n_drawn) * mass[-1].item())
        drawn = drawn.clip(max=len(vectors) - 1)
        torch.mm(vectors[drawn], vectors.T, out=cosines)
        torch.maximum(cosines, nearest, out=cosines)
        best = int(cosines.sum(dim=1).argmax())
        rows.append(int(drawn[best]))
        nearest.copy_(cosines[best])
        nearest[rows[-1]] = 1
    return rows
