"""How far a tuned balance can be carried over the batch size, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots


_CURVES = {
    "tuned": ("tuned at each batch size", "#2a9d8f", "solid"),
    "carried from 128": ("tuned at 128, carried over", "#d6499a", "solid"),
    "scaled from 128": ("tuned at 128, scaled by rule", "#3f86cf", "dash"),
    "usual": ("usual setting", "#7d8187", "dot"),
}
_TITLES = {
    "cub_negatives": "InfoNCE, negatives",
    "cub_all": "InfoNCE, all",
    "cub_margin_all": "margin, all",
    "cub_margin_nonzero": "margin, nonzero",
    "cub_margin_anchor_sum": "margin, anchor_sum",
}
_BALANCES = [2.0**k for k in range(-6, 12)]
_FRACTIONS = [f"{b:g}" if b >= 1 else f"1/{1 / b:g}" for b in _BALANCES]


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """The losses on CUB-200: MAP@R above, below it where the best balance is."""
    shown = [result for result in results if result["landscape"] in _TITLES]
    figure = make_subplots(
        2,
        len(shown),
        subplot_titles=[_TITLES[result["landscape"]] for result in shown],
        vertical_spacing=0.1,
        horizontal_spacing=0.035,
        shared_xaxes=True,
    )
    for column, result in enumerate(shown, 1):
        for name, (label, colour, dash) in _CURVES.items():
            rows = [row for row in result["fresh_seeds"] if row["name"] == name]
            figure.add_scatter(
                x=[row["batch_size"] for row in rows],
                y=[row["map_at_r"][0] for row in rows],
                error_y={"array": [row["map_at_r"][1] for row in rows], "thickness": 1},
                name=label,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": colour, "dash": dash},
                row=1,
                col=column,
            )
        _add_optima(figure, result, column)
    sizes = shown[0]["batch_sizes"]
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=[str(n) for n in sizes])
    figure.update_xaxes(title_text="batch size", row=2)
    figure.update_yaxes(range=[0.19, 0.29], row=1)
    figure.update_yaxes(title_text="MAP@R, validation classes", row=1, col=1)
    figure.update_yaxes(type="log", tickvals=_BALANCES, ticktext=_FRACTIONS, row=2)
    figure.update_yaxes(title_text="best balance", row=2, col=1)
    figure.update_layout(
        template="plotly_white",
        font_color="#333",
        paper_bgcolor="white",
        margin_t=40,
        legend={"orientation": "h", "y": -0.12},
    )
    figure.write_image(path, width=1400, height=680, scale=2)


def _add_optima(figure: go.Figure, result: dict[str, Any], column: int) -> None:
    """The best balance, and the best one with the other axis held where it is best at 128."""
    best = [row["positions"]["balance"] for row in result["optima"]]
    centre = np.array([2.0 ** axis["optimum"] for axis in best])
    low, high = 2.0 ** np.array([axis["interval"] for axis in best]).T
    figure.add_scatter(
        x=result["batch_sizes"],
        y=centre,
        error_y={
            "array": np.maximum(high - centre, 0),
            "arrayminus": np.maximum(centre - low, 0),
            "thickness": 1,
        },
        name="temperature or margin tuned too",
        legendgroup="joint",
        showlegend=column == 1,
        line_color="#2a9d8f",
        row=2,
        col=column,
    )
    (reference,) = (row for row in result["optima"] if row["batch_size"] == 128)
    second = next(name for name in reference["setting"] if name != "balance")
    held = min(
        result["balance_at_fixed"],
        key=lambda level: abs(float(level) - reference["setting"][second]),
    )
    figure.add_scatter(
        x=result["batch_sizes"],
        y=2.0 ** np.array(result["balance_at_fixed"][held]),
        name="temperature or margin held",
        legendgroup="held",
        showlegend=column == 1,
        line={"color": "#b08a1e", "dash": "dash"},
        row=2,
        col=column,
    )
