"""The command line that all scripts in ``studies/`` share."""

from __future__ import annotations

from cbal_optuna.interruption import silent_end


with silent_end():
    from cbal_optuna.command_line.comparing import main_of_comparison
    from cbal_optuna.command_line.data_sets import SCRIPTS
    from cbal_optuna.command_line.description import StudyDescription
    from cbal_optuna.command_line.running import main
    from cbal_optuna.command_line.scripts import SelfSupervisedScript
    from cbal_optuna.command_line.scripts import StudyScript
    from cbal_optuna.command_line.study_file import main_of_file


__all__ = [
    "SCRIPTS",
    "SelfSupervisedScript",
    "StudyDescription",
    "StudyScript",
    "main",
    "main_of_comparison",
    "main_of_file",
]
