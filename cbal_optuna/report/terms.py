"""The two terms of the loss in the course of a training, balance included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

from optuna.study import Study
from optuna.trial import FrozenTrial
import plotly.graph_objects as go

from cbal_optuna.losses import SplitTerms
from cbal_optuna.objectives import CURVE
from cbal_optuna.report.figures import best_trial
from cbal_optuna.report.figures import dress
from cbal_optuna.report.snippet import known_setting
from cbal_optuna.summary import usual_trial


_POSITIVE, _ENTROPY = "#3f86cf", "#d6499a"


@dataclass(frozen=True)
class _Curve:
    name: str
    dash: str
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
    figure = go.Figure()
    for curve in curves:
        for term, values, colour in (
            ("positive term", curve.positive, _POSITIVE),
            ("balance × entropy term", curve.weighted_entropy, _ENTROPY),
        ):
            figure.add_scatter(
                name=f"{term}, {curve.name}",
                # The middle of the part of the training that a mean is of.
                x=[100 * (i + 0.5) / len(values) for i in range(len(values))],
                y=values,
                mode="lines" if len(values) > 1 else "markers",
                line={"color": colour, "dash": curve.dash, "width": 2},
                hovertemplate="%{y:.4g} at %{x:.0f} %",
            )
    dress(figure)
    figure.update_layout(
        showlegend=True,
        xaxis={"title": {"text": "% of the training"}, "range": [0, 100]},
        yaxis={"title": {"text": "part of the loss"}},
    )
    return figure


def _curves(study: Study) -> list[_Curve]:
    usual, best = usual_trial(study), best_trial(study)
    shown: list[tuple[str, str, FrozenTrial | None]] = [
        ("usual", "dash", usual),
        ("best", "solid", best),
    ]
    if usual is not None and best is not None and usual.number == best.number:
        shown = [("usual and best", "solid", usual)]
    curves = (_curve(study, name, dash, trial) for name, dash, trial in shown)
    return [curve for curve in curves if curve is not None]


def _curve(study: Study, name: str, dash: str, trial: FrozenTrial | None) -> _Curve | None:
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
    return _Curve(f"{name} (trial {trial.number})", dash, positive, weighted)


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list):
        return []
    return [v for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
