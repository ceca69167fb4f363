"""A study as plotly figures: what its trials gave, the way the search went, and each
hyper-parameter by itself.

Backgrounds are transparent and all colours of middle lightness, so that a figure can be read on a
light and on a dark page. Text that comes from the study is escaped: plotly reads its labels as a
small subset of HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cbal_optuna.report.words import label
from cbal_optuna.report.words import outcome


_GREY = "#7d8187"
_GRID = "rgba(128, 128, 128, 0.22)"
_BLUE = "#3f86cf"
_ORANGE = "#d9822b"
_OUTLINE = {"color": _GREY, "width": 1}
_WORST_SIZE, _BEST_SIZE = 9.0, 22.0
_LONGEST_TEXT = 40
# Symbol and colour of the trials that have no usable value.
_MARKS = {
    "infeasible": ("x", "#d64550"),
    "pruned": ("triangle-down", "#b08a1e"),
    "failed": ("cross", "#a05fc0"),
    "not finite": ("hexagon", "#d64550"),
    "running": ("circle-open", _GREY),
}


def history(study: Study) -> go.Figure:
    """The value of every trial against its number, the best so far and the usual setting's."""
    trials = _begun(study)
    valued = _valued(trials)
    if not valued:
        return _nothing("No trial has a value yet.")
    numbers = [t.number for t in valued]
    values = np.array([t.value for t in valued], dtype=float)
    best_of = np.maximum if study.direction == StudyDirection.MAXIMIZE else np.minimum
    figure = go.Figure()
    figure.add_scatter(
        x=numbers,
        y=best_of.accumulate(values),
        name="best so far",
        mode="lines",
        line={"color": _ORANGE, "shape": "hv"},
        hoverinfo="skip",
    )
    if valued[0].number == 0:
        figure.add_scatter(
            x=[-0.5, trials[-1].number + 0.5],
            y=[values[0]] * 2,
            name="usual setting (trial 0)",
            mode="lines",
            line={"color": _GREY, "dash": "dash"},
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=numbers,
        y=values,
        name="completed",
        mode="markers",
        marker={"color": _BLUE, "size": 9},
        hovertext=[_hover(t) for t in valued],
        hoverinfo="text",
    )
    for name, marked in _by_mark(trials).items():
        figure.add_scatter(
            x=[t.number for t in marked],
            y=[0.03] * len(marked),
            yaxis="y2",
            **_mark(name, marked),
        )
    _dress(figure)
    figure.update_layout(
        xaxis={"title": {"text": "trial"}, "rangemode": "nonnegative"},
        yaxis_title_text=_value_name(study),
        # Trials without a value stand at the lower edge, whatever the values of the others.
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )
    return figure


def search_path(study: Study) -> go.Figure:
    """The trials in the plane of balance and one more numeric hyper-parameter, in their order.

    Other studies: the plane of the first two. The colour is the value, the size of a mark the
    batch size.
    """
    trials = _begun(study)
    axes = _axes(trials)
    plane = sorted(
        (a for a in axes if a.numeric), key=lambda a: (a.name != "balance", a.name == "batch_size")
    )[:2]
    if len(plane) < 2:
        return _nothing("A path needs two numeric hyper-parameters that are searched.")
    x, y = plane
    on_plane = [t for t in trials if x.name in t.params and y.name in t.params]
    valued = _valued(on_plane)
    if not valued:
        return _nothing("No trial has a value yet.")
    sizes = next((a for a in axes if a.name == "batch_size" and a not in plane), None)
    figure = go.Figure()
    figure.add_scatter(
        x=[x.position(t) for t in valued],
        y=[y.position(t) for t in valued],
        name="completed",
        mode="lines+markers",
        line={"color": _GRID, "width": 1.5},
        marker={
            "color": [t.value for t in valued],
            "coloraxis": "coloraxis",
            "size": [_size(t, sizes) for t in valued],
            "opacity": 1,
            "line": _OUTLINE,
        },
        showlegend=False,
        hovertext=[_hover(t) for t in valued],
        hoverinfo="text",
    )
    for name, marked in _by_mark(on_plane).items():
        figure.add_scatter(
            x=[x.position(t) for t in marked],
            y=[y.position(t) for t in marked],
            **_mark(name, marked),
        )
    for name, symbol, trial in (
        ("start", "square-open", valued[0]),
        ("best", "star-open", _best(valued, study.direction)),
    ):
        figure.add_scatter(
            x=[x.position(trial)],
            y=[y.position(trial)],
            name=name,
            mode="markers",
            marker={
                "symbol": symbol,
                "color": _ORANGE,
                "size": _size(trial, sizes) + 10,
                "line_width": 2,
            },
            hoverinfo="skip",
        )
    if sizes is not None:
        _add_size_legend(figure, valued, sizes)
    _dress(figure)
    figure.update_layout(
        xaxis=x.layout(),
        yaxis=y.layout(),
        coloraxis={
            "colorscale": "Viridis",
            "reversescale": study.direction == StudyDirection.MINIMIZE,
            "colorbar": {
                "title": {"text": _value_name(study)},
                "thickness": 12,
                "outlinewidth": 0,
            },
        },
    )
    return figure


def slices(study: Study) -> go.Figure:
    """The value against each searched hyper-parameter."""
    trials = _begun(study)
    valued = _valued(trials)
    axes = _axes(valued)
    if not axes:
        searched = "No hyper-parameter is searched." if valued else "No trial has a value yet."
        return _nothing(searched)
    best = _best(valued, study.direction)
    n_columns = min(2, len(axes))
    n_rows = math.ceil(len(axes) / n_columns)
    figure = make_subplots(
        n_rows,
        n_columns,
        shared_yaxes=True,
        horizontal_spacing=0.06,
        vertical_spacing=0.28 / n_rows,
    )
    for i, axis in enumerate(axes):
        row, column = divmod(i, n_columns)
        place = {"row": row + 1, "col": column + 1}
        having = [t for t in valued if axis.name in t.params]
        figure.add_scatter(
            x=[axis.position(t) for t in having],
            y=[t.value for t in having],
            name="completed",
            mode="markers",
            marker={"color": _BLUE, "size": 9, "opacity": 0.75},
            showlegend=i == 0,
            legendgroup="completed",
            hovertext=[_hover(t) for t in having],
            hoverinfo="text",
            **place,
        )
        if axis.name in best.params:
            figure.add_scatter(
                x=[axis.position(best)],
                y=[best.value],
                name="best",
                mode="markers",
                marker={"symbol": "star", "color": _ORANGE, "size": 15},
                showlegend=i == 0,
                legendgroup="best",
                hovertext=[_hover(best)],
                hoverinfo="text",
                **place,
            )
        figure.update_xaxes(axis.layout(), **place)
        if column == 0:
            figure.update_yaxes({"title": {"text": _value_name(study)}}, **place)
    _dress(figure)
    figure.update_layout(height=100 + 260 * n_rows)
    return figure


@dataclass(frozen=True)
class _Axis:
    """A hyper-parameter as an axis: a range of numbers, or categories side by side.

    Attributes:
        name:
            The hyper-parameter.
        low, high, log:
            The range searched; of categories, of their positions.
        categories:
            Position and value of each, by its representation, so that 1, ``"1"`` and
            :obj:`True` are three.
    """

    name: str
    low: float
    high: float
    log: bool
    categories: dict[str, tuple[int, Any]] | None

    @classmethod
    def of(cls, name: str, found: Sequence[tuple[BaseDistribution, Any]]) -> _Axis:
        """The axis that holds everything: a range may change from trial to trial."""
        if any(isinstance(d, CategoricalDistribution) for d, _ in found):
            choices = {repr(c): c for d, v in found for c in getattr(d, "choices", (v,))}
            categories = {key: (i, c) for i, (key, c) in enumerate(choices.items())}
            return cls(name, 0, len(categories) - 1, False, categories)
        ranges: list[Any] = [d for d, _ in found]
        low, high = min(d.low for d in ranges), max(d.high for d in ranges)
        return cls(name, low, high, all(d.log for d in ranges), None)

    @property
    def numeric(self) -> bool:
        """Whether it is a range, or categories that are increasing numbers."""
        if self.categories is None:
            return True
        values = [v for _, v in self.categories.values()]
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            return False
        return all(a < b for a, b in zip(values, values[1:]))

    def position(self, trial: FrozenTrial) -> float:
        value = trial.params[self.name]
        return value if self.categories is None else self.categories[repr(value)][0]

    def share(self, trial: FrozenTrial) -> float:
        """How far along the axis a trial is, from 0 to 1."""
        low, high, at = self.low, self.high, self.position(trial)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low)

    def layout(self) -> dict[str, Any]:
        title = {"text": _text(self.name)}
        if self.categories is not None:
            texts = [_text(v) for _, v in self.categories.values()]
            return {
                "title": title,
                "range": [-0.5, self.high + 0.5],
                "tickvals": list(range(len(texts))),
                "ticktext": texts,
            }
        low, high = self.low, self.high
        if self.log:
            low, high = math.log10(low), math.log10(high)
        margin = 0.05 * (high - low)
        return {
            "title": title,
            "type": "log" if self.log else "linear",
            "range": [low - margin, high + margin],
            "exponentformat": "power",
        }


def _axes(trials: Sequence[FrozenTrial]) -> list[_Axis]:
    """The searched hyper-parameters, in the order in which trials have them."""
    found: dict[str, list[tuple[BaseDistribution, Any]]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            found.setdefault(name, []).append((trial.distributions[name], value))
    axes = [_Axis.of(name, pairs) for name, pairs in found.items()]
    return [axis for axis in axes if axis.low < axis.high]


def _begun(study: Study) -> list[FrozenTrial]:
    if len(study.directions) > 1:
        raise ValueError(
            f"`study` has {len(study.directions)} objectives; it should have a single one."
        )
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state != TrialState.WAITING]


def _valued(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [t for t in trials if outcome(t) == "completed"]


def _best(valued: Sequence[FrozenTrial], direction: StudyDirection) -> FrozenTrial:
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    return max(valued, key=lambda t: sign * (t.value or 0.0))


def _by_mark(trials: Sequence[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    marked = {name: [t for t in trials if outcome(t) == name] for name in _MARKS}
    return {name: found for name, found in marked.items() if found}


def _mark(name: str, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    symbol, color = _MARKS[name]
    return {
        "name": name,
        "mode": "markers",
        "marker": {"symbol": symbol, "color": color, "size": 10},
        "cliponaxis": False,
        "hovertext": [_hover(t) for t in trials],
        "hoverinfo": "text",
    }


def _size(trial: FrozenTrial, sizes: _Axis | None) -> float:
    if sizes is None or sizes.name not in trial.params:
        return (_WORST_SIZE + _BEST_SIZE) / 2
    return _WORST_SIZE + (_BEST_SIZE - _WORST_SIZE) * sizes.share(trial)


def _add_size_legend(figure: go.Figure, trials: Sequence[FrozenTrial], sizes: _Axis) -> None:
    having = [t for t in trials if sizes.name in t.params]
    shown = {t.params[sizes.name]: t for t in sorted(having, key=sizes.position)}
    for value, trial in shown.items():
        figure.add_scatter(
            x=[None],
            y=[None],
            name=f"{_text(sizes.name)} {_text(value)}",
            mode="markers",
            marker={"color": _GRID, "size": _size(trial, sizes), "line": _OUTLINE},
        )


def _dress(figure: go.Figure) -> None:
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
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, automargin=True)


def _nothing(message: str) -> go.Figure:
    figure = go.Figure()
    _dress(figure)
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_layout(height=160, xaxis_visible=False, yaxis_visible=False)
    return figure


def _value_name(study: Study) -> str:
    return "value" if study.metric_names is None else _text(study.metric_names[0])


def _hover(trial: FrozenTrial) -> str:
    known = outcome(trial)
    result = label(trial.value) if known == "completed" else known
    params = [f"{_text(name)} {_text(value)}" for name, value in trial.params.items()]
    return "<br>".join([f"<b>trial {trial.number}: {result}</b>", *params])


def _text(value: Any) -> str:
    text = label(value)
    if len(text) > _LONGEST_TEXT:
        text = text[: _LONGEST_TEXT - 1] + "…"
    return escape(text)
