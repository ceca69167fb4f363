"""A study as one HTML file that needs nothing else: its result in words, tables and figures."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
from datetime import timezone
from html import escape
import os
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from cbal_optuna.interval import Interval
from cbal_optuna.replaced_files import replaced
from cbal_optuna.report.gallery import drawn
from cbal_optuna.report.page import figure_html
from cbal_optuna.report.page import page
from cbal_optuna.report.page import table
from cbal_optuna.report.pictures import pictures_of_embeddings
from cbal_optuna.report.rows import failure_rows
from cbal_optuna.report.rows import reason
from cbal_optuna.report.rows import REASONS
from cbal_optuna.report.snippet import loss_snippet
from cbal_optuna.report.timing import PHASE_ATTRIBUTES
from cbal_optuna.report.timing import where_the_time_goes
from cbal_optuna.report.words import described
from cbal_optuna.report.words import expectation
from cbal_optuna.report.words import label
from cbal_optuna.report.words import METRIC_NAMES
from cbal_optuna.report.words import near_values
from cbal_optuna.report.words import number_of_trials
from cbal_optuna.report.words import origin
from cbal_optuna.report.words import outcome
from cbal_optuna.report.words import search_result
from cbal_optuna.report.words import verdict
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import NEAR_OPTIMAL
from cbal_optuna.summary import summarize
from cbal_optuna.summary import Summary


# Attributes that the table of trials leaves out, to stay readable; the first two are the value.
_NOT_IN_TABLE = {
    "map_at_r",
    "knn_accuracy",
    "recall_at_2",
    "recall_at_4",
    "recall_at_8",
    "seconds",
    *PHASE_ATTRIBUTES,
    "seed",
}


def write_report(
    path: str | os.PathLike[str], study: Study, comparisons: Sequence[SettingComparison] = ()
) -> None:
    """Write a study's report: one HTML file that holds everything it shows and loads nothing.

    The file is replaced at once. Whoever reads it meanwhile, and a report that cannot be made,
    find the old one whole.

    Args:
        path:
            The HTML file; its folder must exist.
        study:
            A single-objective study in any state: empty, under way, without a single result.
        comparisons:
            The usual and the best setting trained again with fresh seeds. Without them the gain
            is given as the trials have it, and said to be so.

    Raises:
        ValueError: The study has several objectives.
        OSError: The file cannot be written.
    """
    body = study_body(study, comparisons, prefix="", with_library=True)
    write_page(path, page(study.study_name, body))


def write_page(path: str | os.PathLike[str], text: str) -> None:
    """Write a file, or replace it at once.

    Raises:
        OSError: It cannot be written.
    """
    try:
        with replaced(Path(path)) as part:
            # Failures may quote file names that are no proper Unicode.
            part.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")
    except OSError as error:
        raise OSError(f"the report {path} cannot be written: {error.strerror or error}") from error


def study_body(
    study: Study, comparisons: Sequence[SettingComparison], *, prefix: str, with_library: bool
) -> str:
    """All that a page says of a study.

    Args:
        study, comparisons:
            As for :func:`write_report`.
        prefix:
            Of the figures' identifiers, which have to differ on a page.
        with_library:
            Whether plotly's library comes with the first figure.
    """
    figures = _figures(study, prefix, with_library)
    # What the test says comes before what the validation says.
    comparisons = sorted(comparisons, key=lambda c: c.part != "test")
    trials = study.get_trials(deepcopy=False)
    try:
        summary = summarize(study)
    except ValueError:
        summary = None
    body = [
        _result(study, trials, summary, comparisons),
        *([] if summary is None else [_setting(study, summary), _near_optimal(summary)]),
        *map(_comparison, comparisons),
        figures,
        pictures_of_embeddings(comparisons, prefix),
        where_the_time_goes(trials),
        _failures(trials),
        _trials(trials),
        _attributes(study),
    ]
    return "".join(body)


def _result(
    study: Study,
    trials: Sequence[FrozenTrial],
    summary: Summary | None,
    comparisons: Sequence[SettingComparison],
) -> str:
    sentences = [verdict(c) for c in comparisons]
    if summary is None:
        sentences.append("No trial has a feasible value yet.")
    else:
        sentences += search_result(summary, study.direction, confirmed=bool(comparisons))
    sentences += origin(study)
    now = datetime.now(timezone.utc)
    return (
        f'<p class="soft">{number_of_trials(trials)} As of {now:%Y-%m-%d %H:%M} UTC.</p>\n'
        f'<p class="headline">{escape(sentences[0])}</p>\n'
        + "".join(f"<p>{escape(s)}</p>\n" for s in sentences[1:])
    )


def _setting(study: Study, summary: Summary) -> str:
    recommended, usual = summary.recommended, summary.usual
    header = [
        "",
        f"usual (trial {usual.number})" if usual else "usual",
        f"recommended (trial {recommended.number})",
        "searched",
    ]
    rows: list[list[Any]] = [
        [name, usual.params.get(name, "") if usual else "", value, recommended.distributions[name]]
        for name, value in recommended.params.items()
    ]
    rows.append(["value", usual.value if usual else "", recommended.value, ""])
    if summary.expected is not None:
        expected = (summary.usual_expected, summary.expected)
        title = "expected" if summary.tentative else "expected (95 % interval)"
        rows.append([title, *(expectation(e, summary) for e in expected), ""])
    snippet = loss_snippet(study, recommended)
    copies = [repr(recommended.params), *([snippet.rstrip()] if snippet else [])]
    blocks = "".join(f"<pre>{escape(text)}</pre>\n" for text in copies)
    return f"<h2>Recommended setting</h2>\n{table(header, rows)}{blocks}"


def _near_optimal(summary: Summary) -> str:
    if summary.expected is None:
        return ""
    recommended, share = summary.recommended, f"{100 * NEAR_OPTIMAL:g} %"
    rows = [
        [
            near.name,
            recommended.params[near.name],
            near_values(near, recommended.distributions[near.name]),
        ]
        for near in summary.near_optimal
    ]
    header = ["", "recommended", f"expected within {share}"]
    return f"""<h2>How precisely each must be set</h2>
<p>The values that are expected to cost at most {share} of the recommended value, the other
hyper-parameters being as recommended: by the model of all trials, noise averaged out.</p>
{table(header, rows)}"""


def _comparison(comparison: SettingComparison) -> str:
    rows = [
        [
            METRIC_NAMES.get(metric, metric),
            _interval(comparison.mean("usual", metric)),
            _interval(comparison.mean("best", metric)),
            _interval(comparison.difference(metric)),
        ]
        for metric in comparison.usual
    ]
    seeds = ", ".join(map(str, comparison.seeds))
    return f"""<h2>Trained again, {escape(comparison.evaluated_on)}</h2>
<p>Mean ± half the width of the 95 % interval by Student's t distribution over the seeds {seeds},
which no trial has used. The difference is paired by seed.</p>
{table(["", "usual", "best", "best less usual"], rows)}"""


def _interval(interval: Interval) -> str:
    return str(interval).replace(" ", "\N{NO-BREAK SPACE}")


def _figures(study: Study, prefix: str, with_library: bool) -> str:
    parts = []
    for i, (kind, figure) in enumerate(drawn(study)):
        html = figure_html(figure, f"{prefix}{kind.name}", with_library=with_library and i == 0)
        parts.append(f"<h2>{kind.title}</h2>\n<p>{kind.caption}</p>\n{html}")
    return "".join(parts)


def _failures(trials: Sequence[FrozenTrial]) -> str:
    header, *rows = failure_rows(trials)
    return f"<h2>Failures</h2>\n{table(header, rows)}" if rows else ""


def _trials(trials: Sequence[FrozenTrial]) -> str:
    params = list(dict.fromkeys(name for t in trials for name in t.params))
    attributes = list(dict.fromkeys(name for t in trials for name in _shown_attributes(t)))
    header = ["trial", "outcome", "value", *params, *attributes, "duration", "reason"]
    rows = [
        [
            t.number,
            outcome(t),
            "" if t.value is None else t.value,
            *(t.params.get(name, "") for name in params),
            *(t.user_attrs.get(name, "") for name in attributes),
            t.duration or "",
            reason(t),
        ]
        for t in trials
    ]
    return f"<h2>All trials</h2>\n{table(header, rows, sortable=True)}"


def _shown_attributes(trial: FrozenTrial) -> Iterator[str]:
    for name, value in trial.user_attrs.items():
        if name not in _NOT_IN_TABLE and name not in REASONS:
            if isinstance(value, (bool, int, float, str)):
                yield name


def _attributes(study: Study) -> str:
    rows = list(_flat(study.user_attrs))
    return f"<h2>Study</h2>\n{table(['attribute', 'value'], rows)}" if rows else ""


def _flat(attributes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", label(described(value))
