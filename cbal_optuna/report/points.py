"""Trials as points of figures.

Text that comes from the study is escaped: plotly reads its labels as a small subset of HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.report.axes import text_label
from cbal_optuna.report.looks import GREY
from cbal_optuna.report.words import label
from cbal_optuna.report.words import outcome


_WITH_A_VALUE = ("completed", "collapsed", "ended early")
# Of trials that have no usable value.
MARKS = {
    "infeasible": {"color": "#d64550", "size": 10, "symbol": "x"},
    "pruned": {"color": "#b08a1e", "size": 10, "symbol": "triangle-down"},
    "failed": {"color": "#a05fc0", "size": 10, "symbol": "cross"},
    "interrupted": {"color": GREY, "size": 10, "symbol": "cross-open"},
    "not finite": {"color": "#d64550", "size": 10, "symbol": "hexagon"},
    "running": {"color": GREY, "size": 10, "symbol": "circle-open"},
}


def begun(study: Study) -> list[FrozenTrial]:
    """The trials that do not wait.

    Raises:
        ValueError: The study has several objectives.
    """
    if len(study.directions) > 1:
        raise ValueError(
            f"`study` has {len(study.directions)} objectives; it should have a single one."
        )
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state != TrialState.WAITING]


def valued_of(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those with a usable value."""
    return [t for t in trials if outcome(t) in _WITH_A_VALUE]


def best_trial(study: Study) -> FrozenTrial | None:
    """That of the best usable value, if there is any.

    Raises:
        ValueError: The study has several objectives.
    """
    valued = valued_of(begun(study))
    return best_of(valued, study.direction) if valued else None


def best_of(valued: Sequence[FrozenTrial], direction: StudyDirection) -> FrozenTrial:
    """That of the best value; of one or more that have any."""
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    return max(valued, key=lambda t: sign * (t.value or 0.0))


def by_mark(trials: Sequence[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """Those without a usable value, by what has become of them."""
    marked = {name: [t for t in trials if outcome(t) == name] for name in MARKS}
    return {name: found for name, found in marked.items() if found}


def points(
    name: str, trials: Sequence[FrozenTrial], x: Iterable[float | None], y: Iterable[float | None]
) -> dict[str, Any]:
    """Of a trace that shows trials as marks."""
    return {
        "name": name,
        "x": list(x),
        "y": list(y),
        "mode": "markers",
        "hovertext": [hover(t) for t in trials],
        "hoverinfo": "text",
    }


def lines(name: str, x: Iterable[float], y: Iterable[float]) -> dict[str, Any]:
    """Of a trace that is a line."""
    return {"name": name, "x": list(x), "y": list(y), "mode": "lines", "hoverinfo": "skip"}


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


def value_name(study: Study) -> str:
    """What the values of a study are called."""
    return "value" if study.metric_names is None else text_label(study.metric_names[0])
