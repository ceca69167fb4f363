"""Maps of embeddings as figures."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from itertools import cycle
from typing import Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cbal_optuna.pictures import COLOURS
from cbal_optuna.pictures import EmbeddingMap
from cbal_optuna.pictures import Pictures
from cbal_optuna.report.axes import text_label
from cbal_optuna.report.looks import dress
from cbal_optuna.report.pictured import Pictured


Kind = Literal["pca", "tsne"]
KINDS: dict[Kind, str] = {"pca": "principal directions", "tsne": "t-SNE"}
_SYMBOLS = ("circle", "diamond")
# A class by its colour and, where there are more classes than colours, its mark.
_MARKS = [(colour, symbol) for symbol in _SYMBOLS for colour in COLOURS]
_HEIGHT, _FRAME = 380, "rgba(128, 128, 128, 0.4)"


def maps(pictures: Sequence[Pictures], kind: Kind) -> go.Figure:
    """Maps side by side: the principal directions or t-SNE."""
    figure = make_subplots(1, len(pictures), horizontal_spacing=0.04)
    for column, own in enumerate(pictures, 1):
        figure.add_traces(list(_traces(own, kind)), rows=1, cols=column)
    dress(figure)
    frame = {"showline": True, "mirror": True, "linecolor": _FRAME, "showgrid": False}
    hidden = {**frame, "showticklabels": False, "ticks": "", "range": [-1.06, 1.06]}
    figure.update_xaxes(hidden)
    figure.update_yaxes(hidden)
    # As long as the other.
    figure.for_each_yaxis(lambda axis: axis.update(scaleanchor=axis.anchor))
    figure.update_layout(showlegend=False, height=_HEIGHT)
    return figure


def titled_maps(pictured: Pictured, kind: Kind) -> go.Figure:
    """The same, each under its setting."""
    figure = maps(list(pictured.pictures.values()), kind)
    for axis, (setting, own) in zip(figure.select_xaxes(), pictured.pictures.items()):
        share = f", {variance(own.map)}" if kind == "pca" else ""
        title = {"text": f"{setting} setting{share}", "font": {"size": 13}}
        axis.update(side="top", title=title)
    return figure


def variance(drawn: EmbeddingMap) -> str:
    """The share that principal directions hold, in words."""
    return f"{100 * drawn.variance:.0f}\N{NO-BREAK SPACE}% of the variance"


def marks(drawn: EmbeddingMap) -> dict[int, tuple[str, str]]:
    """Colour and symbol of each class."""
    return dict(zip(dict.fromkeys(drawn.labels), cycle(_MARKS)))


def _traces(pictures: Pictures, kind: Kind) -> Iterator[go.Scatter]:
    """One a class, so that no point needs a text of its own."""
    x, y = getattr(pictures.map, kind)
    for label, (colour, symbol) in marks(pictures.map).items():
        own = [i for i, other in enumerate(pictures.map.labels) if other == label]
        yield go.Scatter(
            name=text_label(pictures.names[label]),
            x=[x[i] for i in own],
            y=[y[i] for i in own],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 6, "opacity": 0.75},
            hoverinfo="name",
            hoverlabel={"namelength": -1},
        )
