"""Several studies as one HTML file, and samplers compared where the studies are searches of the
same objective."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
import os

from optuna.study import Study

from cbal_optuna.comparison import comparable
from cbal_optuna.comparison import SamplerComparison
from cbal_optuna.report.comparison import comparison_body
from cbal_optuna.report.html import study_body
from cbal_optuna.report.html import write_page
from cbal_optuna.report.page import page
from cbal_optuna.retraining import SettingComparison


def write_reports(
    path: str | os.PathLike[str],
    title: str,
    studies: Sequence[tuple[Study, Sequence[SettingComparison]]],
) -> None:
    """Write a report of several studies, with a way to each at the top.

    Args:
        path:
            The HTML file; its folder must exist.
        title:
            Of the page.
        studies:
            Each with its comparisons, as for :func:`~cbal_optuna.report.write_report`.

    Raises:
        ValueError: A study has several objectives.
        OSError: The file cannot be written.
    """
    sections: list[tuple[str, str]] = []
    for i, group in enumerate(comparable([study for study, _ in studies])):
        comparison = SamplerComparison.of(group)
        body = comparison_body(comparison, f"best-so-far-{i}", with_library=not sections)
        sections.append(("Samplers compared", body))
    for i, (study, comparisons) in enumerate(studies):
        body = study_body(study, comparisons, prefix=f"{i}-", with_library=not sections)
        sections.append((study.study_name, body))
    shown = [_section(i, *section) for i, section in enumerate(sections)]
    write_page(path, page(title, _contents(sections) + "".join(shown)))


def _contents(sections: Sequence[tuple[str, str]]) -> str:
    links = (
        f'<li><a href="#section-{i}">{escape(name)}</a></li>'
        for i, (name, _) in enumerate(sections)
    )
    return f"<nav><ul>{''.join(links)}</ul></nav>\n"


def _section(i: int, name: str, body: str) -> str:
    return f'<section id="section-{i}">\n<h1>{escape(name)}</h1>\n{body}</section>\n'
