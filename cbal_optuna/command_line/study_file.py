"""Runs the study that a file describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.data_sets import SCRIPTS
from cbal_optuna.command_line.description import StudyDescription
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.command_line.running import run_study
from cbal_optuna.interruption import silent_end


def main_of_file(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the study of a file, and exit: with status 2 if the input is wrong."""
    parser = Parser(
        description="Run the study that a file of YAML or JSON describes: `data`, the name of the "
        "data set, and the options of its script by name, without the dashes in front. Options "
        "may follow the file, and hold over it.",
        epilog="example: %(prog)s studies/digits.yaml --n-trials 10. Running the same command "
        "again resumes the study, or shows its result. `python studies/cub200.py --help` lists "
        "the options of `data: cub200`.",
        # Options are of the study.
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", type=path, metavar="FILE", help=f"its `data` is one of {', '.join(SCRIPTS)}"
    )
    options, more = parser.parse_known_args(arguments)
    try:
        description = StudyDescription.read(options.file)
    except ValueError as error:
        parser.error(str(error))
    with silent_end():
        study_parser = parser_of(description.script)
        study_parser.prog = f"{parser.prog} {options.file}"
        study_options = description.parsed(study_parser, more)
    parser.exit(run_study(study_parser, description.script, study_options))
