"""What one training has made of the images that it was evaluated on, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
import math
from typing import Any

import numpy as np

from cbal_optuna.data import LabelledImages
from cbal_optuna.pictures.embedded import Embedded
from cbal_optuna.pictures.embedding_map import embedding_map
from cbal_optuna.pictures.embedding_map import EmbeddingMap
from cbal_optuna.pictures.retrieval_sheet import Found
from cbal_optuna.pictures.retrieval_sheet import Search
from cbal_optuna.pictures.retrieval_sheet import searches
from cbal_optuna.pictures.thumbnail import is_thumbnail
from cbal_optuna.pictures.thumbnail import thumbnail


@dataclass(frozen=True)
class Pictures:
    """A map of images, and what some of them find.

    Attributes:
        map:
            Images as points.
        searches:
            Queries and their nearest neighbours.
        thumbnails:
            Data URIs of the images of the searches, by index in the data set.
        classes:
            The class of each of these.
        names:
            Those of all classes on the map and in the searches, by label.
    """

    map: EmbeddingMap
    searches: Sequence[Search]
    thumbnails: Mapping[int, str]
    classes: Mapping[int, int]
    names: Mapping[int, str]

    def class_of(self, item: int) -> str:
        """The name of the class of an image of the searches."""
        return self.names[self.classes[item]]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "map": asdict(self.map),
            "searches": [asdict(search) for search in self.searches],
            **{
                name: {str(key): value for key, value in getattr(self, name).items()}
                for name in ("thumbnails", "classes", "names")
            },
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Pictures:
        """The inverse.

        Raises:
            ValueError: It is none of :meth:`plain`.
        """
        try:
            pictures = cls(
                EmbeddingMap(**plain["map"]),
                [
                    Search(search["query"], tuple(Found(**found) for found in search["found"]))
                    for search in plain["searches"]
                ],
                *(
                    {int(key): value for key, value in plain[name].items()}
                    for name in ("thumbnails", "classes", "names")
                ),
            )
            pictures._check()
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"`plain` is no pictures of embeddings: {error!r}") from error
        return pictures

    def _check(self) -> None:
        """See that what is spoken of is there, whoever has written it."""
        (x, y), (u, v) = self.map.pca, self.map.tsne
        numbers = [self.map.variance]
        for label, *places in zip(self.map.labels, x, y, u, v, strict=True):
            numbers += places
            self.names[label]
        for search in self.searches:
            if not search.found:
                raise ValueError("a search has found nothing")
            numbers += [found.similarity for found in search.found]
            for item in (search.query, *(found.item for found in search.found)):
                self.class_of(item)
                self.thumbnails[item]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number is not finite")
        if not all(isinstance(name, str) for name in self.names.values()):
            raise ValueError("a name is no text")
        if not all(map(is_thumbnail, self.thumbnails.values())):
            raise ValueError("a thumbnail is no image")


def pictures_of(
    dataset: LabelledImages,
    images: Embedded,
    queries: Embedded | None = None,
    gallery: Embedded | None = None,
) -> Pictures:
    """Pictures of what a training has made of some images; whatever it was, the same images.

    Args:
        dataset:
            What the images are of.
        images:
            What to show on the map: with labels.
        queries:
            What searches; by default these images.
        gallery:
            What is searched; by default the queries, each of which searches the others.
    """
    found = searches(queries or images, gallery, dataset.labels)
    shown = {s.query for s in found} | {f.item for s in found for f in s.found}
    classes = {item: int(dataset.labels[item]) for item in sorted(shown)}
    drawn = embedding_map(images, dataset.labels[images.items])
    labels = np.unique([*drawn.labels, *classes.values()]).tolist()
    return Pictures(
        drawn,
        found,
        {item: thumbnail(dataset.image(item)) for item in classes},
        classes,
        {label: dataset.class_names[label] for label in labels},
    )
