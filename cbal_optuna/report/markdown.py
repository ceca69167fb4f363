"""The result of a study in Markdown, and what Markdown needs."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
import re

from optuna.study import Study

from cbal_optuna.report.rows import comparison_rows
from cbal_optuna.report.rows import comparison_title
from cbal_optuna.report.rows import failure_rows
from cbal_optuna.report.rows import near_optimal_rows
from cbal_optuna.report.rows import setting_rows
from cbal_optuna.report.snippet import loss_snippet
from cbal_optuna.report.words import number_of_trials
from cbal_optuna.report.words import origin
from cbal_optuna.report.words import search_result
from cbal_optuna.report.words import verdict
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import summarize


def result_markdown(study: Study, comparisons: Sequence[SettingComparison] = ()) -> str:
    """What :func:`~cbal_optuna.report.result_text` says, and the settings to copy.

    Raises:
        ValueError: The study has several objectives.
    """
    trials = study.get_trials(deepcopy=False)
    failures = failure_rows(trials)
    tail = [markdown_table(*failures)] if len(failures) > 1 else []
    head = [f"## {escaped(study.study_name)}", escaped(number_of_trials(trials))]
    try:
        summary = summarize(study)
    except ValueError:
        return "\n\n".join([*head, "**No trial has a feasible value yet.**", *tail])
    said = [verdict(c) for c in comparisons]
    said += search_result(summary, study.direction, confirmed=bool(comparisons))
    said += origin(study)
    parts = [*head, f"**{escaped(said[0])}**", escaped(" ".join(said[1:]))]
    parts.append(markdown_table(*setting_rows(summary)))
    if summary.near_optimal:
        parts.append(markdown_table(*near_optimal_rows(summary)))
    for comparison in comparisons:
        parts.append(escaped(comparison_title(comparison)))
        parts.append(markdown_table(*comparison_rows(comparison)))
    snippet = loss_snippet(study, summary.recommended)
    return "\n\n".join([*parts, *([code(snippet)] if snippet else []), *tail])


def escaped(value: object) -> str:
    """Text for the middle of a line or the cell of a table, which Markdown takes as it is."""
    line = " ".join(str(value).split())
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return re.sub(r"([\\`*_\[\]<>|~&#$!])", r"\\\1", printable)


def markdown_table(header: Sequence[object], *rows: Iterable[object]) -> str:
    """A table whose cells are escaped here."""
    lines = [map(escaped, header), ["---"] * len(header), *(map(escaped, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Python as a block."""
    return f"```python\n{text}```"
