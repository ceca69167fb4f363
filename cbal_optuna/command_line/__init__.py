"""The command line that all scripts in ``studies/`` share."""

from __future__ import annotations

from cbal_optuna.command_line.comparing import main_of_comparison
from cbal_optuna.command_line.running import main
from cbal_optuna.command_line.scripts import SelfSupervisedScript
from cbal_optuna.command_line.scripts import StudyScript


__all__ = ["SelfSupervisedScript", "StudyScript", "main", "main_of_comparison"]
