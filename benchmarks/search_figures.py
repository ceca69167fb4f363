"""The comparison of searches as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from searchers import OURS


_OURS = ("#d6499a", "#a05fc0")
_OTHERS = (
    "#3f86cf",
    "#2a9d8f",
    "#b08a1e",
    "#7d8187",
    "#6a994e",
    "#d64550",
    "#577590",
    "#c77d3c",
    "#8d99ae",
    "#4d4d4d",
    "#90a955",
    "#9c6644",
)
_TICKS = [factor * 10.0**exponent for exponent in (-3, -2, -1, 0) for factor in (1, 2, 3, 5, 7)]
_LOG = {"type": "log", "tickvals": _TICKS, "ticktext": [f"{tick:g}" for tick in _TICKS]}


def draw(rows: Sequence[dict[str, Any]], workers: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write ``search_regret.png``, ``search_within.png`` and ``search_workers.png``."""
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    ours = [name for name in names if name in OURS]
    others = [name for name in names if name not in OURS]
    colours = dict(zip(ours, _OURS)) | dict(zip(others, _OTHERS))
    own = [row for row in rows if row["kind"] == "family" and row["point"] == "observed"]
    regret = by_family(own, "regret_mean", "mean normalised regret", colours)
    regret.update_yaxes(**_LOG)
    save(regret, folder / "search_regret.png")
    within = by_family(own, "within_1", "share of searches within 1 %", colours)
    save(within, folder / "search_within.png")
    if workers:
        save(against_time(workers, colours), folder / "search_workers.png")


def by_family(
    rows: Sequence[dict[str, Any]], measure: str, title: str, colours: dict[str, str]
) -> go.Figure:
    """Against the number of trials, a panel for each family."""
    families = list(dict.fromkeys(row["group"] for row in rows))
    figure = make_subplots(1, len(families), subplot_titles=families)
    for column, family in enumerate(families, 1):
        for sampler in colours:
            own = [r for r in rows if (r["group"], r["sampler"]) == (family, sampler)]
            figure.add_scatter(
                x=[row["trials"] for row in own],
                y=[row[measure] for row in own],
                name=sampler,
                legendgroup=sampler,
                showlegend=column == 1,
                line=_line(sampler, colours),
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="trials")
    figure.update_yaxes(title_text=title, col=1)
    return figure


def against_time(workers: Sequence[dict[str, Any]], colours: dict[str, str]) -> go.Figure:
    """Regret against wall-clock, a panel for each number of workers."""
    numbers = sorted({row["workers"] for row in workers})
    titles = ["1 worker" if n == 1 else f"{n} workers" for n in numbers]
    figure = make_subplots(1, len(numbers), subplot_titles=titles, shared_yaxes=True)
    for row in workers:
        figure.add_scatter(
            x=row["time"],
            y=row["regret"],
            name=row["sampler"],
            legendgroup=row["sampler"],
            showlegend=row["workers"] == numbers[0],
            line=_line(row["sampler"], colours),
            mode="lines",
            row=1,
            col=1 + numbers.index(row["workers"]),
        )
    figure.update_xaxes(title_text="mean durations of a trial", type="log", matches="x")
    figure.update_yaxes(**_LOG)
    figure.update_yaxes(title_text="mean normalised regret", col=1)
    return figure


def save(figure: go.Figure, path: Path) -> None:
    figure.update_layout(
        template="plotly_white", font_color="#333", paper_bgcolor="white", margin_t=40
    )
    figure.write_image(path, width=1200, height=480, scale=2)


def _line(sampler: str, colours: dict[str, str]) -> dict[str, Any]:
    return {"color": colours[sampler], "width": 3.5 if sampler in OURS else 1.5}
