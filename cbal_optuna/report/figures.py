"""A study as plotly figures: what its trials gave, and each hyper-parameter by itself."""

from __future__ import annotations

import math

import numpy as np
from optuna.study import Study
from optuna.study import StudyDirection
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cbal_optuna.report.axes import axes_of
from cbal_optuna.report.looks import ACCENT
from cbal_optuna.report.looks import dress
from cbal_optuna.report.looks import GREY
from cbal_optuna.report.looks import nothing
from cbal_optuna.report.points import begun
from cbal_optuna.report.points import best_of
from cbal_optuna.report.points import by_mark
from cbal_optuna.report.points import lines
from cbal_optuna.report.points import MARKS
from cbal_optuna.report.points import points
from cbal_optuna.report.points import value_name
from cbal_optuna.report.points import valued_of
from cbal_optuna.summary import usual_trial


_DOT = {"color": "#3f86cf", "size": 9, "opacity": 0.8}
_STAR = {"color": ACCENT, "size": 15, "symbol": "star"}


def history(study: Study) -> go.Figure:
    """The value of every trial against its number, the best so far and the usual setting's.

    Raises:
        ValueError: The study has several objectives.
    """
    trials = begun(study)
    valued = valued_of(trials)
    if not valued:
        return nothing("No trial has a value yet.")
    numbers = [t.number for t in valued]
    values = np.array([t.value for t in valued], dtype=float)
    better = np.maximum if study.direction == StudyDirection.MAXIMIZE else np.minimum
    ends = [-0.5, trials[-1].number + 0.5]
    figure = go.Figure()
    figure.add_scatter(
        **lines("best so far", numbers, better.accumulate(values)),
        line={"color": ACCENT, "shape": "hv"},
    )
    usual = usual_trial(study)
    if usual is not None and usual.value is not None:
        figure.add_scatter(
            **lines(f"usual setting (trial {usual.number})", ends, [usual.value] * 2),
            line={"color": GREY, "dash": "dash"},
        )
    figure.add_scatter(**points("completed", valued, numbers, values), marker=_DOT)
    for name, marked in by_mark(trials).items():
        # At the lower edge, whatever the values of the others.
        x, y = [t.number for t in marked], [0.03] * len(marked)
        figure.add_scatter(**points(name, marked, x, y), marker=MARKS[name], yaxis="y2")
    dress(figure)
    figure.update_layout(
        xaxis={"title": {"text": "trial"}, "range": ends},
        yaxis={"title": {"text": value_name(study)}},
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )
    if ends[1] < 10:
        figure.update_xaxes(dtick=1)
    return figure


def slices(study: Study) -> go.Figure:
    """The value against each searched hyper-parameter.

    Raises:
        ValueError: The study has several objectives.
    """
    trials = begun(study)
    valued = valued_of(trials)
    if not valued:
        return nothing("No trial has a value yet.")
    axes = axes_of(trials)
    if not axes:
        return nothing("No hyper-parameter is searched.")
    n_rows = math.ceil(len(axes) / 2)
    figure = make_subplots(
        n_rows,
        min(2, len(axes)),
        shared_yaxes=True,
        horizontal_spacing=0.06,
        vertical_spacing=0.36 / n_rows,
    )
    best = best_of(valued, study.direction)
    for i, axis in enumerate(axes):
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        for name, marker, shown in ("completed", _DOT, valued), ("best", _STAR, [best]):
            having = [t for t in shown if axis.name in t.params]
            figure.add_scatter(
                **points(name, having, axis.positions(having), [t.value for t in having]),
                marker=marker,
                legendgroup=name,
                showlegend=i == 0,
                **place,
            )
        figure.update_xaxes(axis.layout(), **place)
        if i % 2 == 0:
            figure.update_yaxes({"title": {"text": value_name(study)}}, **place)
    dress(figure)
    figure.update_layout(height=100 + 260 * n_rows)
    return figure
