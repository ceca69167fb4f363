"""Agreement between classes and the clusters of an embedding."""

from __future__ import annotations

from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
import torch
from torch import Tensor

from cbal_optuna.evaluation.retrieval import unit_embeddings


def normalized_mutual_information(embeddings: Tensor, labels: Tensor, *, seed: int = 0) -> float:
    """Cluster by k-means into as many clusters as there are classes and compare the two.

    scikit-learn's k-means runs once, on the CPU, from k-means++ centres drawn with ``seed``, on
    the embeddings scaled to unit length. Its time grows with items times classes.

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
    vectors = unit_embeddings(embeddings.detach(), labels).cpu().numpy()
    n_classes = len(torch.unique(labels))
    if not 1 < n_classes < len(labels):
        raise ValueError(
            "`labels` must hold at least 2 classes and fewer classes than items, got "
            f"{n_classes} classes of {len(labels)} items."
        )
    kmeans = KMeans(n_classes, n_init=1, random_state=seed)
    clusters = kmeans.fit_predict(vectors)
    return float(normalized_mutual_info_score(labels.cpu().numpy(), clusters))
