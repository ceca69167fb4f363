"""Results as plain text."""

from __future__ import annotations

from collections import Counter
from typing import Any

from optuna.study import Study

from cbal_optuna.retraining import METRICS
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import NearOptimal
from cbal_optuna.summary import Summary


def summary_table(study: Study, summary: Summary | None) -> str:
    """The usual and the best setting, the gain as the trials have it, and the near-optimal
    values."""
    states = Counter(t.state.name.lower() for t in study.get_trials(deepcopy=False))
    trials = ", ".join(f"{n} {state}" for state, n in states.items())
    if summary is None:
        return f"{study.study_name}: {trials}; no trial has a feasible result."
    usual, best = summary.usual, summary.best
    rows = [["", "usual", "best", "gain"]]
    gain = "" if summary.gain is None else f"{summary.gain:+.1%}"
    rows.append(
        ["value of the trial", number(usual.value) if usual else "", number(best.value), gain]
    )
    for name, value in best.params.items():
        rows.append([name, number(usual.params.get(name)) if usual else "", number(value), ""])
    lines = [f"{study.study_name}: {trials}; best is trial {best.number}.", "", _aligned(rows), ""]
    if usual is not None and usual.params == best.params:
        lines += ["No better setting than the usual one was found.", ""]
    lines.append("Near-optimal, within 1 % of the best trial:")
    lines.append(_aligned([[near.name, near_optimal(near)] for near in summary.near_optimal]))
    return "\n".join(lines)


def comparison_table(comparison: SettingComparison) -> str:
    """Usual and best setting on fresh seeds, and what can be said of their difference."""
    rows = [["", "usual", "best", "difference"]]
    for metric in METRICS:
        intervals = (
            comparison.mean("usual", metric),
            comparison.mean("best", metric),
            comparison.difference(metric),
        )
        rows.append([metric, *map(str, intervals)])
    return "\n".join(
        [
            f"{comparison.classes.capitalize()} classes, {len(comparison.seeds)} fresh seeds, "
            "mean and 95 % interval:",
            _aligned(rows),
            verdict(comparison),
        ]
    )


def verdict(comparison: SettingComparison) -> str:
    """One sentence on the difference in MAP@R."""
    difference = comparison.difference("map_at_r")
    where = f"on {comparison.classes} classes"
    if not difference.excludes_zero:
        return f"No gain shown {where}: the interval of the difference in MAP@R contains zero."
    share = difference.mean / comparison.mean("usual", "map_at_r").mean
    word = "better" if share > 0 else "worse"
    return f"The best setting is {word} {where}: MAP@R {share:+.1%}."


def near_optimal(near: NearOptimal) -> str:
    """The values in words."""
    low, high = number(near.values[0]), number(near.values[-1])
    values = low if low == high else f"{low} to {high}"
    outside = [number(v) for v in (near.below, near.above) if v is not None]
    return values + (f"    ({' and '.join(outside)} gave less)" if outside else "")


def number(value: Any) -> str:
    """Four significant digits; anything but a float as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = (
        "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])])
        for row in rows
    )
    return "\n".join("  " + line.rstrip() for line in lines)
