"""How figures look.

Backgrounds are transparent and all colours of middle lightness, so that a figure can be read on a
light and on a dark page.
"""

from __future__ import annotations

import plotly.graph_objects as go


GREY = "#7d8187"
PALE = "rgba(128, 128, 128, 0.22)"
ACCENT = "#d6499a"


def dress(figure: go.Figure) -> None:
    """Give a figure the looks that all share."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"color": GREY, "family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        height=420,
        hoverlabel={"align": "left"},
    )
    # In a corner, a number below is not to touch the one beside.
    figure.update_xaxes(gridcolor=PALE, zeroline=False, automargin=True, ticklabelstandoff=4)
    figure.update_yaxes(gridcolor=PALE, zeroline=False, automargin=True)


def nothing(message: str) -> go.Figure:
    """A figure that says why there is none."""
    figure = go.Figure()
    dress(figure)
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_layout(height=160, xaxis_visible=False, yaxis_visible=False)
    return figure
