"""Queries and what they find, as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from cbal_optuna.pictures import RIGHT
from cbal_optuna.pictures import WRONG
from cbal_optuna.report.axes import text_label
from cbal_optuna.report.looks import dress
from cbal_optuna.report.looks import GREY
from cbal_optuna.report.pictured import chosen
from cbal_optuna.report.pictured import Pictured


# More rows would be heavy where figures are stored, and their images small.
_MOST_ROWS = 6
# In steps from one image to the next: the side of an image, the way from one setting to another.
_SIDE, _GAP = 0.86, 0.4
_FRAMES: dict[str, dict[str, Any]] = {
    "query": {"color": GREY, "width": 1},
    "right class": {"color": RIGHT, "width": 2.5},
    "another class": {"color": WRONG, "width": 2.5, "dash": "4px,2px"},
}


@dataclass(frozen=True)
class _Tile:
    """An image of the figure: its centre, its data URI, the kind of its frame, and what is said
    of it."""

    x: float
    y: float
    source: str
    frame: str
    told: str

    def corners(self) -> list[tuple[float | None, float | None]]:
        """Of the frame as a line, from the first to the first, and the end of the line."""
        half = _SIDE / 2
        turns = (-half, half), (half, half), (half, -half), (-half, -half), (-half, half)
        return [(self.x + x, self.y + y) for x, y in turns] + [(None, None)]


def neighbours(pictured: Pictured) -> go.Figure | None:
    """Some of the queries, one a row, and what they find, the usual setting beside the best;
    :obj:`None` if there are none.

    Args:
        pictured:
            Of both settings, or of one that is both.
    """
    tiles = list(_tiles(pictured))
    if not tiles:
        return None
    figure = go.Figure()
    for name, line in _FRAMES.items():
        corners = [corner for t in tiles if t.frame == name for corner in t.corners()]
        x, y = zip(*corners) if corners else ((None,), (None,))
        figure.add_scatter(name=name, x=x, y=y, mode="lines", line=line, hoverinfo="skip")
    figure.add_scatter(
        x=[t.x for t in tiles],
        y=[t.y for t in tiles],
        mode="markers",
        marker={"opacity": 0, "size": 30},
        hovertext=[t.told for t in tiles],
        hoverinfo="text",
        hoverlabel={"bgcolor": [_FRAMES[t.frame]["color"] for t in tiles]},
        showlegend=False,
    )
    dress(figure)
    _lay_out(figure, tiles, pictured)
    return figure


def _tiles(pictured: Pictured) -> Iterator[_Tile]:
    searches = pictured.searches()
    starts = _starts(pictured)
    for row, query in enumerate(chosen(searches, _MOST_ROWS)):
        told = f"query: {text_label(pictured.first.class_of(query))}"
        yield _Tile(0.0, -row, pictured.first.thumbnails[query], "query", told)
        for start, search, own in zip(starts, searches[query], pictured.pictures.values()):
            for i, found in enumerate(search.found):
                name = text_label(own.class_of(found.item))
                frame = "right class" if found.right else "another class"
                told = f"{frame}: {name}<br>cosine {found.similarity:.2f}"
                yield _Tile(start + i, -row, own.thumbnails[found.item], frame, told)


def _n_found(pictured: Pictured) -> int:
    found = (len(s.found) for own in pictured.pictures.values() for s in own.searches)
    return max(found, default=0)


def _starts(pictured: Pictured) -> list[float]:
    """Where the first that is found is, by setting."""
    step = _n_found(pictured) + _GAP
    return [1 + _GAP + i * step for i in range(len(pictured.pictures))]


def _lay_out(figure: go.Figure, tiles: Sequence[_Tile], pictured: Pictured) -> None:
    """Images at their places, and over the columns what they are."""
    middle = (_n_found(pictured) - 1) / 2
    figure.update_layout(
        images=[
            {
                "source": t.source,
                "x": t.x,
                "y": t.y,
                "sizex": _SIDE,
                "sizey": _SIDE,
                "xref": "x",
                "yref": "y",
                "xanchor": "center",
                "yanchor": "middle",
                "layer": "below",
            }
            for t in tiles
        ],
        # Over what the columns are.
        legend={"y": 1.09},
    )
    figure.update_xaxes(
        side="top",
        showgrid=False,
        tickvals=[0, *(start + middle for start in _starts(pictured))],
        ticktext=["query", *(f"{setting} setting" for setting in pictured.pictures)],
        range=[-0.5, max(t.x for t in tiles) + 0.5],
        constrain="domain",
    )
    figure.update_yaxes(
        showgrid=False,
        showticklabels=False,
        range=[min(t.y for t in tiles) - 0.5, 0.5],
        constrain="domain",
        constraintoward="top",
        scaleanchor="x",
    )
