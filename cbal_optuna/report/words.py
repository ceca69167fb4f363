"""What a study has found, in words that sell no noise as gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution
from optuna.distributions import json_to_distribution
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.feasibility import is_feasible
from cbal_optuna.objectives import Setting
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.stored_trials import INTERRUPTED
from cbal_optuna.study_history import TRAININGS
from cbal_optuna.summary import Expectation
from cbal_optuna.summary import NearOptimal
from cbal_optuna.summary import Summary
from cbal_optuna.warm_start import recorded_start


METRIC_NAMES = {
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    **{f"recall_at_{k}": f"Recall@{k}" for k in (1, 2, 4, 8)},
    "nmi": "NMI",
    "knn_accuracy": "kNN accuracy",
    "linear_accuracy": "Linear probe accuracy",
    "spread": "Spread",
    "effective_rank": "Effective rank",
}


def outcome(trial: FrozenTrial) -> str:
    """What became of a trial, in a word or two: its state, or why its value is of no use."""
    if not is_feasible(trial):
        return "infeasible"
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        if not math.isfinite(trial.value):
            return "not finite"
        if "collapsed" in trial.user_attrs:
            return "collapsed"
        return "ended early" if TRAININGS in trial.user_attrs else "completed"
    if trial.state == TrialState.FAIL:
        return "interrupted" if INTERRUPTED in trial.user_attrs else "failed"
    return trial.state.name.lower()


def label(value: Any) -> str:
    """A value of a study for people: numbers with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, timedelta):
        return _duration(value.total_seconds())
    if isinstance(value, BaseDistribution):
        return _range(value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {label(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(label, value))
    return str(value)


def described(value: Any) -> Any:
    """A user attribute, as a distribution if it is one in Optuna's JSON."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json_to_distribution(value)
        except (KeyError, TypeError, ValueError):
            return value
    return value


def number_of_trials(trials: Sequence[FrozenTrial]) -> str:
    """By what became of them."""
    if not trials:
        return "No trials."
    counts = Counter(map(outcome, trials)).most_common()
    total = f"{len(trials)} trial{'s' if len(trials) > 1 else ''}"
    return f"{total}: {', '.join(f'{n} {name}' for name, n in counts)}."


def verdict(comparison: SettingComparison) -> str:
    """What fresh seeds say: no gain, unless the interval keeps clear of zero; and collapses."""
    return " ".join([_gain(comparison), *collapses(comparison)])


def collapses(comparison: SettingComparison) -> list[str]:
    """A sentence on the trainings whose embeddings have collapsed, if there are any."""
    counts = [
        f"{n} of {len(comparison.seeds)} with the {name} setting"
        for name, n in zip(("usual", "best"), comparison.collapsed)
        if n
    ]
    return [f"Trainings whose embeddings have collapsed: {', '.join(counts)}."] * bool(counts)


def _gain(comparison: SettingComparison) -> str:
    metric = comparison.metric
    name = METRIC_NAMES.get(metric, metric)
    where = f"on {comparison.evaluated_on}"
    difference = comparison.difference(metric)
    n_seeds = len(comparison.seeds)
    usual = comparison.mean("usual", metric).mean
    share = f" ({difference.mean / usual:+.1%})" if usual else ""
    change = f"{name} changes by {difference.mean:+.4f}{share}"
    if n_seeds < 2:
        return f"No gain is shown {where}: {change}, but one seed gives no interval."
    if np.array_equal(comparison.usual[metric], comparison.best[metric]):
        mean = comparison.mean("usual", metric)
        return f"The usual setting is the best one found: {name} {mean} {where}."
    low, high = difference.mean - difference.half_width, difference.mean + difference.half_width
    interval = f"95 % interval {low:+.4f} to {high:+.4f}, {n_seeds} fresh seeds"
    if not difference.excludes_zero:
        return f"No gain is shown {where}: {change}, which may be noise: {interval}."
    word = "better" if difference.mean > 0 else "worse"
    return f"The best setting is {word} than the usual one {where}: {change}, {interval}."


def search_result(summary: Summary, direction: StudyDirection, *, confirmed: bool) -> list[str]:
    """What all trials together say of the recommended and the usual setting.

    Args:
        summary, direction:
            Of the study.
        confirmed:
            Whether both settings have been trained again with fresh seeds.
    """
    recommended, usual = summary.recommended, summary.usual
    lower = ["Lower values are better."] * (direction == StudyDirection.MINIMIZE)
    collapsed = [
        f"The embeddings of trial {recommended.number} have collapsed: they do not tell images "
        "apart."
    ] * ("collapsed" in recommended.user_attrs)
    if summary.expected is None:
        best = f"The best trial has {label(summary.best.value)}."
        return [best, *collapsed, *lower, summary.reason]
    sentences = [f"It is expected to have {expectation(summary.expected, summary)}."]
    if usual is None or summary.usual_expected is None:
        head = f"Recommended is the setting of trial {recommended.number}."
        sentences.append("The usual setting has no value to compare it with.")
    elif summary.expected == summary.usual_expected:
        head = f"No setting is expected to be better than the usual one (trial {usual.number})."
    else:
        better = "better" if summary.gain is None else f"{100 * summary.gain:.3g} % better"
        head = (
            "According to all trials together, the recommended setting "
            f"(that of trial {recommended.number}) is {better} than the usual one"
        )
        sentences[0] = (
            f"It is expected to have {expectation(summary.expected, summary)}, "
            f"the usual one {expectation(summary.usual_expected, summary)}."
        )
        if summary.tentative:
            head += ", which may be noise."
            if summary.noise_is_known:
                sentences.append("These trials are too few, or too noisy, to tell.")
            else:
                sentences.append("These trials do not tell how noisy they are.")
        elif _overlap(summary.expected, summary.usual_expected):
            head += ", which may be noise."
            sentences.append("These intervals overlap.")
        else:
            head += ", as far as a model of the trials can tell gain from noise."
        if not confirmed:
            sentences.append("Training both settings again with fresh seeds tells gain from luck.")
    noise = ""
    if summary.noise_is_known or not summary.tentative:
        noise = f"; one trial is off by about {label(summary.noise)}"
    sentences.append(
        f"The best single trial has {label(summary.best.value)} (trial {summary.best.number}), "
        f"luck included{noise}."
    )
    return [head, *sentences, *collapsed, *lower, summary.reason]


def origin(study: Study) -> list[str]:
    """Where the search started, if another study said where."""
    start = recorded_start(study)
    if start is None:
        return []
    found = f"trial {start.trial}"
    if start.found != start.setting:
        found = f"{label(start.found)}; this is the nearest that is searched here"
    return [
        f"The search started from {label(start.setting)}{_value_at(study, start.setting)}, the "
        f"setting that the study {start.study} recommends ({found})."
    ]


def expectation(expected: Expectation | None, summary: Summary) -> str:
    """With its interval, unless the trials are too few for one."""
    if expected is None:
        return ""
    if summary.tentative:
        return label(expected.value)
    return f"{label(expected.value)} ({label(expected.low)} to {label(expected.high)})"


def near_values(near: NearOptimal, distribution: BaseDistribution) -> str:
    """From the lowest to the highest, categories one by one; and which ends of the range they
    reach."""
    if isinstance(distribution, CategoricalDistribution):
        text = label(near.values)
    else:
        text = " to ".join(dict.fromkeys(map(label, (near.values[0], near.values[-1]))))
    ends = [("lower", near.bounded_below), ("upper", near.bounded_above)]
    reached = " and the ".join(name for name, bounded in ends if not bounded)
    plural = "s" if " and " in reached else ""
    return f"{text}, the {reached} end{plural} of the range" if reached else text


def _value_at(study: Study, setting: Setting) -> str:
    """The trial of a setting and its value, in brackets, once it has one."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.params == setting:
            return f" (trial {trial.number}: {label(trial.value)})"
    return ""


def _overlap(a: Expectation, b: Expectation) -> bool:
    return a.low <= b.high and b.low <= a.high


def _range(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return label(distribution.choices)
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    log = ", log" if distribution.log else ""  # type: ignore[attr-defined]
    usual_step = 1 if isinstance(distribution, IntDistribution) else None
    step = distribution.step  # type: ignore[attr-defined]
    stepped = f", step {label(step)}" if step != usual_step else ""
    return f"{label(low)} to {label(high)}{log}{stepped}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
