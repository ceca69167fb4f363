"""The two terms of the loss in the course of a training, balance included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cbal_optuna.losses import SplitTerms
from cbal_optuna.objectives import CURVE
from cbal_optuna.report.looks import ACCENT
from cbal_optuna.report.looks import dress
from cbal_optuna.report.looks import GREY
from cbal_optuna.report.points import best_trial
from cbal_optuna.report.snippet import known_setting
from cbal_optuna.summary import usual_trial


_USUAL = {"color": GREY, "dash": "dash", "width": 2}
_BEST = {"color": ACCENT, "dash": "solid", "width": 2}


@dataclass(frozen=True)
class _Curve:
    name: str
    line: dict[str, Any]
    positive: Sequence[float]
    weighted_entropy: Sequence[float]


def terms(study: Study) -> go.Figure | None:
    """The positive term and the entropy term times the balance, over the training of the usual and
    of the best trial; :obj:`None` if neither has recorded them.

    Raises:
        ValueError: The study has several objectives.
    """
    curves = _curves(study)
    if not curves:
        return None
    # Each has a scale of its own: next to a large balance the positive term looks like a constant.
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06)
    for curve in curves:
        for row, values in enumerate((curve.positive, curve.weighted_entropy), 1):
            figure.add_scatter(
                name=curve.name,
                # The middle of the part of the training that a mean is of.
                x=[100 * (i + 0.5) / len(values) for i in range(len(values))],
                y=values,
                mode="lines" if len(values) > 1 else "markers",
                marker={"color": curve.line["color"], "size": 9},
                line=curve.line,
                hovertemplate="%{y:.4g} at %{x:.0f} %",
                legendgroup=curve.name,
                showlegend=row == 1,
                row=row,
                col=1,
            )
    dress(figure)
    figure.update_xaxes(range=[0, 100])
    figure.update_xaxes(title={"text": "% of the training"}, row=2)
    figure.update_yaxes(title={"text": "positive term"}, row=1)
    figure.update_yaxes(title={"text": "balance × entropy term"}, row=2)
    figure.update_layout(height=520)
    return figure


def _curves(study: Study) -> list[_Curve]:
    usual, best = usual_trial(study), best_trial(study)
    shown: list[tuple[str, dict[str, Any], FrozenTrial | None]] = [
        ("usual", _USUAL, usual),
        ("best", _BEST, best),
    ]
    if usual is not None and best is not None and usual.number == best.number:
        shown = [("usual and best", _BEST, usual)]
    curves = (_curve(study, *each) for each in shown)
    return [curve for curve in curves if curve is not None]


def _curve(
    study: Study, name: str, line: dict[str, Any], trial: FrozenTrial | None
) -> _Curve | None:
    """Nothing if the trial does not say, or says something else by that name."""
    if trial is None:
        return None
    stored, balance = trial.user_attrs.get(CURVE), known_setting(study, trial).get("balance")
    if not isinstance(stored, dict) or not isinstance(balance, (int, float)):
        return None
    positive, entropy = (_numbers(stored.get(term)) for term in SplitTerms._fields)
    if not positive or not entropy:
        return None
    weighted = [balance * value for value in entropy]
    return _Curve(f"{name} (trial {trial.number})", line, positive, weighted)


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list):
        return []
    return [v for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
