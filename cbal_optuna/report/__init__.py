"""A study as figures and as a page to be read and handed on."""

from __future__ import annotations

from cbal_optuna.report.figures import history
from cbal_optuna.report.figures import search_path
from cbal_optuna.report.figures import slices
from cbal_optuna.report.html import write_report
from cbal_optuna.report.text import result_text


__all__ = ["history", "result_text", "search_path", "slices", "write_report"]
