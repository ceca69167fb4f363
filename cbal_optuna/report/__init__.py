"""A study as figures and as a page to be read and handed on."""

from __future__ import annotations

from cbal_optuna.report.comparison import best_so_far
from cbal_optuna.report.comparison import comparison_text
from cbal_optuna.report.comparison import write_comparison
from cbal_optuna.report.figures import history
from cbal_optuna.report.figures import slices
from cbal_optuna.report.gallery import drawn
from cbal_optuna.report.gallery import drawn_pictures
from cbal_optuna.report.gallery import OF_PICTURES
from cbal_optuna.report.html import write_report
from cbal_optuna.report.looks import nothing
from cbal_optuna.report.markdown import code
from cbal_optuna.report.markdown import escaped
from cbal_optuna.report.markdown import markdown_table
from cbal_optuna.report.markdown import result_markdown
from cbal_optuna.report.pictured import first_pictured
from cbal_optuna.report.search_path import search_path
from cbal_optuna.report.several import write_reports
from cbal_optuna.report.terms import terms
from cbal_optuna.report.text import result_text
from cbal_optuna.report.timeline import timeline
from cbal_optuna.report.words import collapses
from cbal_optuna.report.words import label
from cbal_optuna.report.words import METRIC_NAMES


__all__ = [
    "METRIC_NAMES",
    "OF_PICTURES",
    "best_so_far",
    "code",
    "collapses",
    "comparison_text",
    "drawn",
    "drawn_pictures",
    "escaped",
    "first_pictured",
    "history",
    "label",
    "markdown_table",
    "nothing",
    "result_markdown",
    "result_text",
    "search_path",
    "slices",
    "terms",
    "timeline",
    "write_comparison",
    "write_report",
    "write_reports",
]
