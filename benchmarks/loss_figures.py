"""Time and memory of the losses over n as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots


_COLOURS = {
    "SplitInfoNCELoss": "#d6499a",
    "SplitInfoNCELoss, all": "#a05fc0",
    "SplitMarginLoss": "#d64550",
    "PML SupConLoss": "#3f86cf",
    "PML NTXentLoss": "#577590",
    "lightly NTXentLoss": "#2a9d8f",
    "lightly DCLLoss": "#6a994e",
    "plain InfoNCE": "#7d8187",
    "PML ContrastiveLoss": "#b08a1e",
    "PML ContrastiveLoss, cosine": "#c77d3c",
    "plain margin": "#9c6644",
}
_PANELS = (("median_ms", "time (ms)"), ("peak_extra_mb", "peak extra memory (MB)"))


def draw(rows: Sequence[dict[str, Any]], products: Sequence[dict[str, Any]], path: Path) -> None:
    """A row of panels for each type and number of dimensions: time, and memory.

    Args:
        rows: What was measured; what was left out is not drawn.
        products: Rows of the matrix products that bound the time.
    """
    settings = list(dict.fromkeys((row["dtype"], row["d"]) for row in rows))
    titles = [f"{dtype}, d = {d}: {name}" for dtype, d in settings for _, name in _PANELS]
    figure = make_subplots(len(settings), 2, subplot_titles=titles, vertical_spacing=0.12)
    for line, setting in enumerate(settings, 1):
        own = [row for row in rows if (row["dtype"], row["d"]) == setting]
        for column, (measure, _) in enumerate(_PANELS, 1):
            for loss, colour in _COLOURS.items():
                style = {"color": colour, "width": 3.5 if loss.startswith("Split") else 1.5}
                add_line(figure, (line, column), loss, own, measure, style)
        bounds = [row for row in products if (row["dtype"], row["d"]) == setting]
        for loss in dict.fromkeys(row["loss"] for row in bounds):
            style = {"color": "#333", "width": 1.5, "dash": "dot" if "2" in loss else "dash"}
            add_line(figure, (line, 1), loss, bounds, "median_ms", style)
    save(figure, path, 520 * len(settings))


def add_line(
    figure: go.Figure,
    place: tuple[int, int],
    loss: str,
    rows: Sequence[dict[str, Any]],
    measure: str,
    style: dict[str, Any],
) -> None:
    own = [row for row in rows if row["loss"] == loss and row[measure] is not None]
    figure.add_scatter(
        x=[row["n"] for row in own],
        y=[row[measure] for row in own],
        name=loss,
        legendgroup=loss,
        showlegend=place == (1, 1),
        line=style,
        row=place[0],
        col=place[1],
    )


def save(figure: go.Figure, path: Path, height: int) -> None:
    sizes = sorted({n for line in figure.data for n in line.x})
    figure.update_xaxes(title_text="n", type="log", tickvals=sizes, tickangle=-45)
    figure.update_yaxes(type="log", dtick=1)
    figure.update_layout(
        template="plotly_white",
        font_color="#333",
        paper_bgcolor="white",
        margin_t=40,
        legend_font_size=11,
    )
    figure.write_image(path, width=1200, height=height, scale=2)
