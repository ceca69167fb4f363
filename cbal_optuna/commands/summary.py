"""``summary``: results of studies as text or JSON."""

from __future__ import annotations

import argparse
import json

from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import single_objective_studies
from cbal_optuna.report import result_text
from cbal_optuna.retraining import comparisons_of
from cbal_optuna.study_result import StudyResult


def add(commands: Commands[Parser]) -> None:
    add_command(
        commands,
        "summary",
        run,
        "Say what studies have found, and whether to search on.",
        "sqlite:///cub200.db --json",
    )


def run(options: argparse.Namespace) -> None:
    _, studies = single_objective_studies(options)
    if options.json:
        print(json.dumps([StudyResult.of(study).to_dict() for study in studies], indent=2))
        return
    print("\n\n\n".join(result_text(s, comparisons_of(s)) for s in studies))
