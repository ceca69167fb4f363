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
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.feasibility import is_feasible
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import NearOptimal
from cbal_optuna.summary import Summary


METRIC_NAMES = {
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    **{f"recall_at_{k}": f"Recall@{k}" for k in (1, 2, 4, 8)},
    "nmi": "NMI",
}


def outcome(trial: FrozenTrial) -> str:
    """What became of a trial, in a word or two: its state, or why its value is of no use."""
    if not is_feasible(trial):
        return "infeasible"
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return "completed" if math.isfinite(trial.value) else "not finite"
    return "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()


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
    """What fresh seeds say: no gain, unless the interval keeps clear of zero."""
    metric = "map_at_r" if "map_at_r" in comparison.usual else next(iter(comparison.usual))
    name = METRIC_NAMES.get(metric, metric)
    where = f"on {comparison.classes} classes"
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


def trial_result(
    summary: Summary, trials: Sequence[FrozenTrial], direction: StudyDirection
) -> list[str]:
    """What single trials say of the best and the usual setting, and that noise is in it."""
    best, usual = summary.best, summary.usual
    lower = ["Lower values are better."] * (direction == StudyDirection.MINIMIZE)
    if usual is None:
        return [
            f"The best setting has {label(best.value)} (trial {best.number}).",
            "The usual setting has no value to compare it with.",
            *lower,
        ]
    if best.number == usual.number:
        return [f"No trial is better than the usual setting (trial {usual.number}).", *lower]
    better = "better" if summary.gain is None else f"{100 * summary.gain:.3g} % better"
    n_valued = sum(outcome(t) == "completed" for t in trials)
    return [
        f"As the trials have it, noise included, the best setting is {better} than the usual one.",
        f"It has {label(best.value)} (trial {best.number}), the usual one {label(usual.value)} "
        f"(trial {usual.number}). The best of {n_valued} noisy trials looks better than it is.",
        *lower,
    ]


def near_values(near: NearOptimal, distribution: BaseDistribution) -> str:
    """From the lowest to the highest; categories one by one."""
    if isinstance(distribution, CategoricalDistribution):
        return label(near.values)
    return " to ".join(dict.fromkeys(map(label, (near.values[0], near.values[-1]))))


def tried_outside(
    near: NearOptimal, distribution: BaseDistribution, trials: Sequence[FrozenTrial]
) -> str:
    """Which values apart from the near-optimal ones have been tried, so what is known of them."""
    if isinstance(distribution, CategoricalDistribution):
        tried = {repr(t.params[near.name]) for t in trials if near.name in t.params}
        near_keys = set(map(repr, near.values))
        others = [c for c in distribution.choices if repr(c) not in near_keys]
        worse = [c for c in others if repr(c) in tried]
        never = [c for c in others if repr(c) not in tried]
        parts = [f"tried: {label(worse)}"] * bool(worse)
        parts += [f"never tried: {label(never)}"] * bool(never)
        return "; ".join(parts) or "nothing: all are near-optimal"
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    below = _beyond("below", near.below, near.values[0] <= low)
    return f"{below}; {_beyond('above', near.above, near.values[-1] >= high)}"


def _beyond(side: str, nearest: Any | None, at_end: bool) -> str:
    if nearest is not None:
        return f"{side}: {label(nearest)}"
    if at_end:
        return f"{side}: the range ends"
    return f"{side}: nothing, it may go on"


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
