"""Queries and the images that they find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cbal_optuna.evaluation import unit_embeddings
from cbal_optuna.pictures.embedded import Embedded


MOST_QUERIES = 40
N_FOUND = 6


@dataclass(frozen=True)
class Found:
    """An image that a query finds.

    Attributes:
        item:
            Its index in the data set.
        similarity:
            The cosine of the two embeddings.
        right:
            Whether it is of the query's class.
    """

    item: int
    similarity: float
    right: bool


@dataclass(frozen=True)
class Search:
    """A query, by its index in the data set, and its nearest neighbours, the nearest first."""

    query: int
    found: tuple[Found, ...]

    @property
    def is_right(self) -> bool:
        """Whether the nearest neighbour is, which is what Recall@1 counts."""
        return self.found[0].right


def searches(queries: Embedded, gallery: Embedded | None, labels: np.ndarray) -> list[Search]:
    """Up to 40 queries that have a match, drawn by classes alone from as many classes as there
    are: for all models the same.

    Args:
        queries:
            What to draw from.
        gallery:
            What they search; by default one another.
        labels:
            The class of every image of the data set.
    """
    searched = queries if gallery is None else gallery
    drawn = _drawn(labels[queries.items], labels[searched.items], int(gallery is None))
    if not len(drawn):
        return []
    items = unit_embeddings(searched.embeddings)
    similarity = unit_embeddings(queries.of(drawn).embeddings).to(items) @ items.T
    if gallery is None:
        similarity[torch.arange(len(drawn)), torch.from_numpy(drawn)] = -torch.inf
    n_found = min(N_FOUND, len(items) - int(gallery is None))
    best, found = (t.cpu().numpy() for t in similarity.topk(n_found))
    return [
        Search(query, tuple(_found(query, *pair, labels) for pair in zip(neighbours, cosines)))
        for query, neighbours, cosines in zip(
            queries.items[drawn].tolist(), searched.items[found].tolist(), best.tolist()
        )
    ]


def _found(query: int, item: int, cosine: float, labels: np.ndarray) -> Found:
    return Found(item, round(cosine, 4), bool(labels[item] == labels[query]))


def _drawn(labels: np.ndarray, searched: np.ndarray, n_own: int) -> np.ndarray:
    """Positions of queries with a match, in turns one of each class."""
    n_matches = np.bincount(searched, minlength=labels.max() + 1)[labels] - n_own
    order = np.random.default_rng(0).permutation(len(labels))
    turns: dict[int, int] = {}
    keyed: list[tuple[int, int]] = []
    for position in order[n_matches[order] > 0].tolist():
        turn = turns[labels[position]] = turns.get(labels[position], -1) + 1
        keyed.append((turn, position))
    # The sort is stable: the order within a turn is the drawn one.
    drawn = [position for _, position in sorted(keyed, key=lambda pair: pair[0])]
    return np.array(drawn[:MOST_QUERIES], dtype=np.int64)
