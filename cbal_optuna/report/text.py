"""The result of a study as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import Study

from cbal_optuna.plain_text import printable
from cbal_optuna.report.rows import comparison_rows
from cbal_optuna.report.rows import comparison_title
from cbal_optuna.report.rows import near_optimal_rows
from cbal_optuna.report.rows import setting_rows
from cbal_optuna.report.words import number_of_trials
from cbal_optuna.report.words import origin
from cbal_optuna.report.words import search_result
from cbal_optuna.report.words import verdict
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import summarize


def result_text(study: Study, comparisons: Sequence[SettingComparison] = ()) -> str:
    """The usual and the recommended setting, the gain, the near-optimal values, and the
    comparisons."""
    trials = study.get_trials(deepcopy=False)
    head = f"{study.study_name}: {number_of_trials(trials)}"
    try:
        summary = summarize(study)
    except ValueError:
        reasons = (t.user_attrs["infeasible"] for t in trials if "infeasible" in t.user_attrs)
        return printable(f"{head} No trial has a feasible value. {next(reasons, '')}".rstrip())
    sentences = search_result(summary, study.direction, confirmed=bool(comparisons))
    result = " ".join([*sentences, *origin(study)])
    near = [_aligned(near_optimal_rows(summary))] if summary.near_optimal else []
    parts = [head, _aligned(setting_rows(summary)), result, *near]
    return printable("\n\n".join([*parts, *map(_comparison_text, comparisons)]))


def _comparison_text(comparison: SettingComparison) -> str:
    rows = _aligned(comparison_rows(comparison))
    return f"{comparison_title(comparison)}\n{rows}\n{verdict(comparison)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("   ".join(c.ljust(w) for c, w in zip(row, widths)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)
