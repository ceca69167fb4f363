"""The result of a study as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import Study

from cbal_optuna.report.words import label
from cbal_optuna.report.words import METRIC_NAMES
from cbal_optuna.report.words import near_values
from cbal_optuna.report.words import number_of_trials
from cbal_optuna.report.words import trial_result
from cbal_optuna.report.words import tried_outside
from cbal_optuna.report.words import verdict
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import summarize


def result_text(study: Study, comparisons: Sequence[SettingComparison] = ()) -> str:
    """The usual and the best setting, the gain, the near-optimal values, and the comparisons."""
    trials = study.get_trials(deepcopy=False)
    head = f"{study.study_name}: {number_of_trials(trials)}"
    try:
        summary = summarize(study)
    except ValueError:
        reasons = (t.user_attrs["infeasible"] for t in trials if "infeasible" in t.user_attrs)
        return f"{head} No trial has a feasible value. {next(reasons, '')}".rstrip()
    usual, best = summary.usual, summary.best
    rows = [["", "usual", "best"]]
    rows.append(["value of the trial", label(usual.value) if usual else "", label(best.value)])
    for name, value in best.params.items():
        rows.append([name, label(usual.params.get(name, "")) if usual else "", label(value)])
    near = [["", "within 1 % of the best", "tried outside"]]
    for n in summary.near_optimal:
        distribution = best.distributions[n.name]
        near.append([n.name, near_values(n, distribution), tried_outside(n, distribution, trials)])
    result = " ".join(trial_result(summary, trials, study.direction))
    parts = [head, _aligned(rows), result, _aligned(near)]
    return "\n\n".join([*parts, *map(_comparison_text, comparisons)])


def _comparison_text(comparison: SettingComparison) -> str:
    rows = [["", "usual", "best", "difference"]]
    for metric in comparison.usual:
        intervals = (
            comparison.mean("usual", metric),
            comparison.mean("best", metric),
            comparison.difference(metric),
        )
        rows.append([METRIC_NAMES.get(metric, metric), *map(str, intervals)])
    title = (
        f"{comparison.classes.capitalize()} classes, {len(comparison.seeds)} fresh seeds, "
        "mean and 95 % interval:"
    )
    return f"{title}\n{_aligned(rows)}\n{verdict(comparison)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("   ".join(c.ljust(w) for c, w in zip(row, widths)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)
