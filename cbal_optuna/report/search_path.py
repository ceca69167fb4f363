"""The way that a search went, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
import plotly.graph_objects as go

from cbal_optuna.report.axes import axes_of
from cbal_optuna.report.axes import Axis
from cbal_optuna.report.axes import text_label
from cbal_optuna.report.looks import ACCENT
from cbal_optuna.report.looks import dress
from cbal_optuna.report.looks import GREY
from cbal_optuna.report.looks import nothing
from cbal_optuna.report.looks import PALE
from cbal_optuna.report.points import begun
from cbal_optuna.report.points import best_of
from cbal_optuna.report.points import by_mark
from cbal_optuna.report.points import lines
from cbal_optuna.report.points import MARKS
from cbal_optuna.report.points import points
from cbal_optuna.report.points import value_name
from cbal_optuna.report.points import valued_of


# The legend draws no mark larger than 16.
_SMALLEST, _LARGEST = 6.0, 16.0
_LONGEST_LEGEND = 6
_OUTLINE = {"color": GREY, "width": 1}


def search_path(study: Study) -> go.Figure:
    """The trials in the plane of balance and one more numeric hyper-parameter, in their order.

    In studies without a balance the plane of the first two. The colour is the value, where the
    worst tenth of the trials have the last colour; the size of a mark is the batch size.

    Raises:
        ValueError: The study has several objectives.
    """
    trials = begun(study)
    if not valued_of(trials):
        return nothing("No trial has a value yet.")
    axes = axes_of(trials)
    numeric = [axis for axis in axes if axis.numeric]
    plane = sorted(numeric, key=lambda a: (a.name != "balance", a.name == "batch_size"))[:2]
    if len(plane) < 2:
        return nothing("A path needs two numeric hyper-parameters that are searched.")
    x, y = plane
    trials = [t for t in trials if x.name in t.params and y.name in t.params]
    valued = valued_of(trials)
    if not valued:
        return nothing(f"No trial with {text_label(x.name)} and {text_label(y.name)} has a value.")
    size = next((a for a in axes if a.name == "batch_size" and a not in plane), None)
    figure = go.Figure()
    _add_path(figure, valued, x, y, size)
    for name, marked in by_mark(trials).items():
        figure.add_scatter(
            **points(name, marked, x.positions(marked), y.positions(marked)), marker=MARKS[name]
        )
    best = best_of(valued, study.direction)
    for name, symbol, trial in ("start", "square-open", valued[0]), ("best", "star-open", best):
        ring = {"symbol": symbol, "size": 26, "color": ACCENT, "line": {"width": 2}}
        figure.add_scatter(
            **points(name, [trial], x.positions([trial]), y.positions([trial])), marker=ring
        )
    dress(figure)
    figure.update_layout(xaxis=x.layout(), yaxis=y.layout(), coloraxis=_color_axis(study, valued))
    return figure


def _add_path(
    figure: go.Figure, trials: Sequence[FrozenTrial], x: Axis, y: Axis, size: Axis | None
) -> None:
    """The trials as a line with marks, and a legend of their sizes."""

    def size_of(trial: FrozenTrial) -> float:
        share = size.share(trial) if size is not None and size.name in trial.params else 0.5
        return _SMALLEST + (_LARGEST - _SMALLEST) * share

    xs, ys = x.positions(trials), y.positions(trials)
    figure.add_scatter(**lines("path", xs, ys), line=_OUTLINE, opacity=0.6, showlegend=False)
    figure.add_scatter(
        **points("completed", trials, xs, ys),
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
            **points(f"{text_label(size.name)} {text_label(value)}", [], [None], [None]),
            marker={"color": PALE, "size": size_of(trial), "line": _OUTLINE},
        )


def _color_axis(study: Study, valued: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Brighter is better. A few very bad trials do not use up the colours."""
    maximize = study.direction == StudyDirection.MAXIMIZE
    values = [t.value for t in valued if t.value is not None]
    low, high = np.quantile(values, (0.1, 1.0) if maximize else (0.0, 0.9))
    return {
        "colorscale": "Viridis",
        "reversescale": not maximize,
        "colorbar": {
            # Above the bar, a number at its upper end may lie on the title.
            "title": {"text": value_name(study), "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
        },
        **({"cmin": float(low), "cmax": float(high)} if low < high else {}),
    }
