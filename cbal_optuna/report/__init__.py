"""A study as figures and as a page to be read and handed on."""

from __future__ import annotations

from cbal_optuna.report.comparison import best_so_far
from cbal_optuna.report.comparison import comparison_text
from cbal_optuna.report.comparison import write_comparison
from cbal_optuna.report.figures import history
from cbal_optuna.report.figures import search_path
from cbal_optuna.report.figures import slices
from cbal_optuna.report.html import write_report
from cbal_optuna.report.text import result_text
from cbal_optuna.report.words import label
from cbal_optuna.report.words import METRIC_NAMES


__all__ = [
    "METRIC_NAMES",
    "best_so_far",
    "comparison_text",
    "history",
    "label",
    "result_text",
    "search_path",
    "slices",
    "write_comparison",
    "write_report",
]
