"""A study as plotly figures: what its trials gave, the way the search went, and each
hyper-parameter by itself.

Backgrounds are transparent and all colours of middle lightness, so that a figure can be read on a
light and on a dark page. Text that comes from the study is escaped: plotly reads its labels as a
small subset of HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
import math
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cbal_optuna.report.axes import axes_of
from cbal_optuna.report.axes import Axis
from cbal_optuna.report.axes import text_label
from cbal_optuna.report.words import label
from cbal_optuna.report.words import outcome
from cbal_optuna.summary import usual_trial


_GREY = "#7d8187"
_PALE = "rgba(128, 128, 128, 0.22)"
_ACCENT = "#d6499a"
# The legend draws no mark larger than 16.
_SMALLEST, _LARGEST = 6.0, 16.0
_LONGEST_LEGEND = 6
_DOT = {"color": "#3f86cf", "size": 9, "opacity": 0.8}
_STAR = {"color": _ACCENT, "size": 15, "symbol": "star"}
_OUTLINE = {"color": _GREY, "width": 1}
# Of trials that have no usable value.
_WITH_A_VALUE = ("completed", "collapsed", "ended early")
_MARKS = {
    "infeasible": {"color": "#d64550", "size": 10, "symbol": "x"},
    "pruned": {"color": "#b08a1e", "size": 10, "symbol": "triangle-down"},
    "failed": {"color": "#a05fc0", "size": 10, "symbol": "cross"},
    "not finite": {"color": "#d64550", "size": 10, "symbol": "hexagon"},
    "running": {"color": _GREY, "size": 10, "symbol": "circle-open"},
}


def history(study: Study) -> go.Figure:
    """The value of every trial against its number, the best so far and the usual setting's.

    Raises:
        ValueError: The study has several objectives.
    """
    trials = _begun(study)
    valued = _valued(trials)
    if not valued:
        return nothing("No trial has a value yet.")
    numbers = [t.number for t in valued]
    values = np.array([t.value for t in valued], dtype=float)
    best_of = np.maximum if study.direction == StudyDirection.MAXIMIZE else np.minimum
    ends = [-0.5, trials[-1].number + 0.5]
    figure = go.Figure()
    figure.add_scatter(
        **_line("best so far", numbers, best_of.accumulate(values)),
        line={"color": _ACCENT, "shape": "hv"},
    )
    usual = usual_trial(study)
    if usual is not None and usual.value is not None:
        figure.add_scatter(
            **_line(f"usual setting (trial {usual.number})", ends, [usual.value] * 2),
            line={"color": _GREY, "dash": "dash"},
        )
    figure.add_scatter(**_points("completed", valued, numbers, values), marker=_DOT)
    for name, marked in _by_mark(trials).items():
        # At the lower edge, whatever the values of the others.
        x, y = [t.number for t in marked], [0.03] * len(marked)
        figure.add_scatter(**_points(name, marked, x, y), marker=_MARKS[name], yaxis="y2")
    dress(figure)
    figure.update_layout(
        xaxis={"title": {"text": "trial"}, "range": ends},
        yaxis={"title": {"text": _value_name(study)}},
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )
    if ends[1] < 10:
        figure.update_xaxes(dtick=1)
    return figure


def search_path(study: Study) -> go.Figure:
    """The trials in the plane of balance and one more numeric hyper-parameter, in their order.

    In studies without a balance the plane of the first two. The colour is the value, where the
    worst tenth of the trials have the last colour; the size of a mark is the batch size.

    Raises:
        ValueError: The study has several objectives.
    """
    trials = _begun(study)
    if not _valued(trials):
        return nothing("No trial has a value yet.")
    axes = axes_of(trials)
    numeric = [axis for axis in axes if axis.numeric]
    plane = sorted(numeric, key=lambda a: (a.name != "balance", a.name == "batch_size"))[:2]
    if len(plane) < 2:
        return nothing("A path needs two numeric hyper-parameters that are searched.")
    x, y = plane
    trials = [t for t in trials if x.name in t.params and y.name in t.params]
    valued = _valued(trials)
    if not valued:
        return nothing(f"No trial with {text_label(x.name)} and {text_label(y.name)} has a value.")
    size = next((a for a in axes if a.name == "batch_size" and a not in plane), None)
    figure = go.Figure()
    _add_path(figure, valued, x, y, size)
    for name, marked in _by_mark(trials).items():
        figure.add_scatter(
            **_points(name, marked, x.positions(marked), y.positions(marked)), marker=_MARKS[name]
        )
    best = _best(valued, study.direction)
    for name, symbol, trial in ("start", "square-open", valued[0]), ("best", "star-open", best):
        ring = {"symbol": symbol, "size": 26, "color": _ACCENT, "line": {"width": 2}}
        figure.add_scatter(
            **_points(name, [trial], x.positions([trial]), y.positions([trial])), marker=ring
        )
    dress(figure)
    figure.update_layout(xaxis=x.layout(), yaxis=y.layout(), coloraxis=_color_axis(study, valued))
    return figure


def slices(study: Study) -> go.Figure:
    """The value against each searched hyper-parameter.

    Raises:
        ValueError: The study has several objectives.
    """
    trials = _begun(study)
    valued = _valued(trials)
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
        vertical_spacing=0.28 / n_rows,
    )
    best = _best(valued, study.direction)
    for i, axis in enumerate(axes):
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        for name, marker, shown in ("completed", _DOT, valued), ("best", _STAR, [best]):
            having = [t for t in shown if axis.name in t.params]
            figure.add_scatter(
                **_points(name, having, axis.positions(having), [t.value for t in having]),
                marker=marker,
                legendgroup=name,
                showlegend=i == 0,
                **place,
            )
        figure.update_xaxes(axis.layout(), **place)
        if i % 2 == 0:
            figure.update_yaxes({"title": {"text": _value_name(study)}}, **place)
    dress(figure)
    figure.update_layout(height=100 + 260 * n_rows)
    return figure


def best_trial(study: Study) -> FrozenTrial | None:
    """That of the best usable value, if there is any.

    Raises:
        ValueError: The study has several objectives.
    """
    valued = _valued(_begun(study))
    return _best(valued, study.direction) if valued else None


def _begun(study: Study) -> list[FrozenTrial]:
    if len(study.directions) > 1:
        raise ValueError(
            f"`study` has {len(study.directions)} objectives; it should have a single one."
        )
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state != TrialState.WAITING]


def _valued(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [t for t in trials if outcome(t) in _WITH_A_VALUE]


def _best(valued: Sequence[FrozenTrial], direction: StudyDirection) -> FrozenTrial:
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    return max(valued, key=lambda t: sign * (t.value or 0.0))


def _by_mark(trials: Sequence[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    marked = {name: [t for t in trials if outcome(t) == name] for name in _MARKS}
    return {name: found for name, found in marked.items() if found}


def _points(
    name: str, trials: Sequence[FrozenTrial], x: Iterable[float | None], y: Iterable[float | None]
) -> dict[str, Any]:
    return {
        "name": name,
        "x": list(x),
        "y": list(y),
        "mode": "markers",
        "hovertext": [hover(t) for t in trials],
        "hoverinfo": "text",
    }


def _line(name: str, x: Iterable[float], y: Iterable[float]) -> dict[str, Any]:
    return {"name": name, "x": list(x), "y": list(y), "mode": "lines", "hoverinfo": "skip"}


def _add_path(
    figure: go.Figure, trials: Sequence[FrozenTrial], x: Axis, y: Axis, size: Axis | None
) -> None:
    """The trials as a line with marks, and a legend of their sizes."""

    def size_of(trial: FrozenTrial) -> float:
        share = size.share(trial) if size is not None and size.name in trial.params else 0.5
        return _SMALLEST + (_LARGEST - _SMALLEST) * share

    xs, ys = x.positions(trials), y.positions(trials)
    figure.add_scatter(**_line("path", xs, ys), line=_OUTLINE, opacity=0.6, showlegend=False)
    figure.add_scatter(
        **_points("completed", trials, xs, ys),
        marker={
            "color": [t.value for t in trials],
            "coloraxis": "coloraxis",
            "size": list(map(size_of, trials)),
            "opacity": 1,
            "line": _OUTLINE,
        },
        showlegend=False,
    )
    if size is None:
        return
    having = sorted((t for t in trials if size.name in t.params), key=size.share)
    shown = list({t.params[size.name]: t for t in having}.items())
    if len(shown) > _LONGEST_LEGEND:
        shown = [shown[0], shown[-1]]
    for value, trial in shown:
        figure.add_scatter(
            **_points(f"{text_label(size.name)} {text_label(value)}", [], [None], [None]),
            marker={"color": _PALE, "size": size_of(trial), "line": _OUTLINE},
        )


def _color_axis(study: Study, valued: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Brighter is better. A few very bad trials do not use up the colours."""
    maximize = study.direction == StudyDirection.MAXIMIZE
    values = [t.value for t in valued if t.value is not None]
    low, high = np.quantile(values, (0.1, 1.0) if maximize else (0.0, 0.9))
    return {
        "colorscale": "Viridis",
        "reversescale": not maximize,
        "colorbar": {"title": {"text": _value_name(study)}, "thickness": 12, "outlinewidth": 0},
        **({"cmin": float(low), "cmax": float(high)} if low < high else {}),
    }


def dress(figure: go.Figure) -> None:
    """The looks that all figures share."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"color": _GREY, "family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        height=420,
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(gridcolor=_PALE, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=_PALE, zeroline=False, automargin=True)


def nothing(message: str) -> go.Figure:
    """A figure that says why there is none."""
    figure = go.Figure()
    dress(figure)
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_layout(height=160, xaxis_visible=False, yaxis_visible=False)
    return figure


def _value_name(study: Study) -> str:
    return "value" if study.metric_names is None else text_label(study.metric_names[0])


def hover(trial: FrozenTrial) -> str:
    """What a trial is and has given, in lines."""
    known = outcome(trial)
    if known in _WITH_A_VALUE:
        note = "" if known == "completed" else f", {known}"
        result = f"{label(trial.value)}{note}"
    else:
        result = known
    params = [f"{text_label(name)} {text_label(value)}" for name, value in trial.params.items()]
    return "<br>".join([f"<b>trial {trial.number}: {result}</b>", *params])
