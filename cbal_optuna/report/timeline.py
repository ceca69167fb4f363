"""When trials ran, and how many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
import heapq

from optuna.study import Study
from optuna.trial import FrozenTrial
import plotly.graph_objects as go

from cbal_optuna.report.looks import dress
from cbal_optuna.report.looks import GREY
from cbal_optuna.report.looks import nothing
from cbal_optuna.report.points import hover
from cbal_optuna.report.words import outcome


_COLOURS = {
    "completed": "#3f86cf",
    "collapsed": "#2a9d8f",
    "ended early": "#6a994e",
    "infeasible": "#d64550",
    "not finite": "#d64550",
    "pruned": "#b08a1e",
    "failed": "#a05fc0",
    "interrupted": "#d9b8e6",
    "running": GREY,
}


def timeline(study: Study) -> go.Figure:
    """Each trial as a bar from its begin to its end, one line for each that ran at a time."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.datetime_start is not None]
    if not trials:
        return nothing("No trial has begun yet.")
    starts = {t.number: t.datetime_start for t in trials if t.datetime_start is not None}
    # Of one that runs, as far as the study knows.
    latest = max([*starts.values(), *(t.datetime_complete for t in trials if t.datetime_complete)])
    ends = {t.number: t.datetime_complete or latest for t in trials}
    first = min(starts.values())
    unit, seconds = _unit((latest - first).total_seconds())
    line_of = _lines(trials, starts, ends)
    figure = go.Figure()
    for name, colour in _COLOURS.items():
        shown = [t for t in trials if outcome(t) == name]
        if not shown:
            continue
        figure.add_bar(
            name=name,
            orientation="h",
            y=[line_of[t.number] for t in shown],
            base=[(starts[t.number] - first).total_seconds() / seconds for t in shown],
            x=[(ends[t.number] - starts[t.number]).total_seconds() / seconds for t in shown],
            marker={"color": colour, "line": {"color": GREY, "width": 1}},
            hovertext=[hover(t) for t in shown],
            hoverinfo="text",
        )
    dress(figure)
    n_lines = max(line_of.values())
    figure.update_layout(
        barmode="overlay",
        showlegend=True,
        height=140 + 28 * min(n_lines, 20),
        xaxis={"title": {"text": f"{unit} since the first trial began"}},
        yaxis={
            "title": {"text": "at a time"},
            "dtick": max(1, n_lines // 10),
            "range": [0.4, n_lines + 0.6],
        },
    )
    return figure


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _lines(
    trials: Sequence[FrozenTrial], starts: dict[int, datetime], ends: dict[int, datetime]
) -> dict[int, int]:
    """By trial, the lowest line that is free when it begins, from 1 on."""
    free: list[int] = []
    busy: list[tuple[datetime, int]] = []
    line_of: dict[int, int] = {}
    for trial in sorted(trials, key=lambda t: starts[t.number]):
        while busy and busy[0][0] <= starts[trial.number]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        line = heapq.heappop(free) if free else len(busy) + 1
        line_of[trial.number] = line
        heapq.heappush(busy, (ends[trial.number], line))
    return line_of
