"""The result of a study as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import Study

from cbal_optuna.report.words import expectation
from cbal_optuna.report.words import label
from cbal_optuna.report.words import METRIC_NAMES
from cbal_optuna.report.words import near_values
from cbal_optuna.report.words import number_of_trials
from cbal_optuna.report.words import origin
from cbal_optuna.report.words import search_result
from cbal_optuna.report.words import verdict
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import NEAR_OPTIMAL
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
        return f"{head} No trial has a feasible value. {next(reasons, '')}".rstrip()
    usual, recommended = summary.usual, summary.recommended
    rows = [["", "usual", "recommended"]]
    rows.append(
        ["value of its trial", *(label(t.value) if t else "" for t in (usual, recommended))]
    )
    if summary.expected is not None:
        expected = (summary.usual_expected, summary.expected)
        rows.append(["expected value", *(expectation(e, summary) for e in expected)])
    for name, value in recommended.params.items():
        rows.append([name, label(usual.params.get(name, "")) if usual else "", label(value)])
    near = [["", f"expected within {100 * NEAR_OPTIMAL:g} % of the recommended"]]
    for n in summary.near_optimal:
        near.append([n.name, near_values(n, recommended.distributions[n.name])])
    sentences = search_result(summary, study.direction, confirmed=bool(comparisons))
    result = " ".join([*sentences, *origin(study)])
    parts = [head, _aligned(rows), result, *([_aligned(near)] if summary.near_optimal else [])]
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
        f"{comparison.evaluated_on.capitalize()}, {len(comparison.seeds)} fresh seeds, "
        "mean and 95 % interval:"
    )
    return f"{title}\n{_aligned(rows)}\n{verdict(comparison)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("   ".join(c.ljust(w) for c, w in zip(row, widths)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)
