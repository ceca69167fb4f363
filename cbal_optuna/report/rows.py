"""The tables of a result as rows of text, the first one their header."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from cbal_optuna.report.words import expectation
from cbal_optuna.report.words import label
from cbal_optuna.report.words import METRIC_NAMES
from cbal_optuna.report.words import near_values
from cbal_optuna.report.words import outcome
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.stored_trials import INTERRUPTED
from cbal_optuna.summary import NEAR_OPTIMAL
from cbal_optuna.summary import Summary


Rows = list[list[str]]

# User attributes that say why a trial has no value, or a useless one.
REASONS = ("infeasible", "failure", INTERRUPTED, "collapsed")
_NO_FAILURE = ("completed", "ended early", "running", "waiting")
_MOST = 10


def setting_rows(summary: Summary) -> Rows:
    """The usual and the recommended setting side by side."""
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
    return rows


def near_optimal_rows(summary: Summary) -> Rows:
    """How far each hyper-parameter may be off."""
    distributions = summary.recommended.distributions
    header = ["", f"expected within {100 * NEAR_OPTIMAL:g} % of the recommended"]
    return [
        header,
        *([n.name, near_values(n, distributions[n.name])] for n in summary.near_optimal),
    ]


def comparison_title(comparison: SettingComparison) -> str:
    where, n_seeds = comparison.evaluated_on.capitalize(), len(comparison.seeds)
    if n_seeds == 1:
        return f"{where}, one fresh seed:"
    return f"{where}, {n_seeds} fresh seeds, mean and 95 % interval:"


def comparison_rows(comparison: SettingComparison) -> Rows:
    """A row for each metric."""
    rows = [["", "usual", "best", "difference"]]
    for metric in comparison.usual:
        intervals = (
            comparison.mean("usual", metric),
            comparison.mean("best", metric),
            comparison.difference(metric),
        )
        rows.append([METRIC_NAMES.get(metric, metric), *map(str, intervals)])
    return rows


def failure_rows(trials: Sequence[FrozenTrial]) -> Rows:
    """What became of trials without a usable value, and why: the most frequent first."""
    found: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        became = outcome(trial)
        if became not in _NO_FAILURE:
            found.setdefault((became, reason(trial)), []).append(str(trial.number))
    rows = sorted(found.items(), key=lambda item: -len(item[1]))
    return [
        ["result", "why", "how many", "trials"],
        *([*key, str(len(numbers)), _shortened(numbers)] for key, numbers in rows),
    ]


def reason(trial: FrozenTrial) -> str:
    """Why a trial has no value, or one of no use, as far as it says so."""
    return "; ".join(str(trial.user_attrs[name]) for name in REASONS if name in trial.user_attrs)


def _shortened(numbers: Sequence[str]) -> str:
    rest = f" and {len(numbers) - _MOST} others" if len(numbers) > _MOST else ""
    return ", ".join(numbers[:_MOST]) + rest
