"""The figures of a study, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from optuna.study import Study
import plotly.graph_objects as go

from cbal_optuna.report.axes import text_label
from cbal_optuna.report.figures import history
from cbal_optuna.report.figures import slices
from cbal_optuna.report.maps import titled_maps
from cbal_optuna.report.neighbours import neighbours
from cbal_optuna.report.pictured import Pictured
from cbal_optuna.report.search_path import search_path
from cbal_optuna.report.terms import terms
from cbal_optuna.report.timeline import timeline


@dataclass(frozen=True)
class Figure:
    """A kind of figure.

    Args:
        name:
            For files and identifiers.
        title, caption:
            For people.
        draw:
            Makes it, if the study has something for it; :obj:`ValueError` if it has several
            objectives.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Study], go.Figure | None]


FIGURES = (
    Figure(
        "history", "History", "Trials without a usable value stand at the lower edge.", history
    ),
    Figure(
        "search-path",
        "Search path",
        "The trials in their order. The colour is the value, brighter is better, and the worst "
        "tenth share one colour; the size is the batch size, if that is searched.",
        search_path,
    ),
    Figure(
        "slices",
        "Each hyper-parameter",
        "The other hyper-parameters differ between the points: only the best value at a place "
        "tells what this hyper-parameter can do there.",
        slices,
    ),
    Figure(
        "terms",
        "The two terms over the training",
        "The loss is their sum. The positive term falls as images that belong together come "
        "together, the entropy term as the others move apart. Each point is the mean over a "
        "fiftieth of the training, or over a step where there are fewer.",
        terms,
    ),
    Figure(
        "timeline",
        "Timeline",
        "When each trial ran, one line above the other where several ran at a time.",
        timeline,
    ),
)


def drawn(study: Study) -> Iterator[tuple[Figure, go.Figure]]:
    """The figures that a study has something for.

    Raises:
        ValueError: The study has several objectives.
    """
    for kind in FIGURES:
        figure = kind.draw(study)
        if figure is not None:
            yield kind, figure


#: By name the titles of the figures that pictures of embeddings give, and what draws them.
OF_PICTURES: Mapping[str, tuple[str, Callable[[Pictured], go.Figure | None]]] = {
    "map-pca": ("Embeddings by principal directions", partial(titled_maps, kind="pca")),
    "map-tsne": ("Embeddings by t-SNE", partial(titled_maps, kind="tsne")),
    "neighbours": ("Nearest neighbours", neighbours),
}


def drawn_pictures(pictured: Pictured) -> Iterator[tuple[str, str, go.Figure]]:
    """Name, title and figure of what there is to be seen."""
    for name, (title, draw) in OF_PICTURES.items():
        figure = draw(pictured)
        if figure is not None:
            yield name, f"{title}, {text_label(pictured.where)}", figure
