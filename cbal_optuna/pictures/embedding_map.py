"""Embeddings in the plane: their two principal directions, and t-SNE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from cbal_optuna.evaluation import unit_embeddings
from cbal_optuna.pictures.embedded import Embedded


# As many classes as can be told apart by colour and mark; as many images as t-SNE takes two
# seconds for on one core.
MOST_CLASSES = 20
MOST_IMAGES = 1000
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class EmbeddingMap:
    """Images of some classes as points of the plane, from -1 to 1.

    Attributes:
        labels:
            The class of each image.
        pca:
            Each image's place along the first and along the second principal direction.
        tsne:
            By t-SNE, whose axes have no meaning, nor have distances between far points.
        variance:
            The share of the variance that the two principal directions hold, from 0 to 1.
    """

    labels: list[int]
    pca: tuple[list[float], list[float]]
    tsne: tuple[list[float], list[float]]
    variance: float


def embedding_map(images: Embedded, labels: np.ndarray) -> EmbeddingMap:
    """A map of images of up to 20 classes, up to 1,000, drawn by their classes alone: all models
    have the same on their maps.

    Args:
        images:
            One or more.
        labels:
            Their classes, of shape (n,).
    """
    shown = _drawn(labels)
    unit = unit_embeddings(images.of(shown).embeddings).cpu().double().numpy()
    # In directions that all have in common there is nothing but rounding.
    centred = unit - unit.mean(axis=0)
    centred[:, np.abs(centred).max(axis=0) < 1e-6] = 0.0
    plane, variance = _principal(centred)
    near = _by_neighbours(centred, plane) if len(unit) > 2 else plane
    return EmbeddingMap(labels[shown].tolist(), _plain(plane), _plain(near), variance)


def _drawn(labels: np.ndarray) -> np.ndarray:
    """Positions of the images to show, class by class."""
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    classes = np.sort(rng.permutation(classes)[:MOST_CLASSES])
    most = MOST_IMAGES // len(classes)
    return np.concatenate(
        [np.sort(rng.permutation(np.flatnonzero(labels == c))[:most]) for c in classes]
    )


def _principal(centred: np.ndarray) -> tuple[np.ndarray, float]:
    """Coordinates of shape (n, 2), and their share of the variance."""
    total = np.square(centred).sum()
    plane = np.zeros((len(centred), 2))
    if not total:
        return plane, 0.0
    found = PCA(min(2, *centred.shape), svd_solver="full").fit_transform(centred)
    plane[:, : found.shape[1]] = found
    return plane, float(np.square(found).sum() / total)


def _by_neighbours(centred: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Coordinates by t-SNE, of shape (n, 2)."""
    tsne = TSNE(
        init=1e-4 * _scaled(plane),
        perplexity=min(_PERPLEXITY, (len(plane) - 1) / 3),
        random_state=0,
    )
    return tsne.fit_transform(centred.astype(np.float32))


def _scaled(plane: np.ndarray) -> np.ndarray:
    largest = np.abs(plane).max()
    return (plane / largest if largest else plane).astype(np.float32)


def _plain(plane: np.ndarray) -> tuple[list[float], list[float]]:
    """To three digits, about a pixel."""
    x, y = _scaled(plane - (plane.max(axis=0) + plane.min(axis=0)) / 2).astype(float).round(3).T
    return x.tolist(), y.tolist()
