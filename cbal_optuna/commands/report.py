"""``report``: studies as an HTML page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.output import check_report
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import single_objective_studies
from cbal_optuna.plain_text import printable
from cbal_optuna.report import write_report
from cbal_optuna.report import write_reports
from cbal_optuna.retraining import comparisons_of


def add(commands: Commands[Parser]) -> None:
    parser = add_command(
        commands,
        "report",
        run,
        "Write studies as one HTML file that needs nothing else.",
        "sqlite:///cub200.db -o report.html",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        default=Path("report.html"),
        metavar="FILE.html",
        help="(default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    check_report("--output", options.output, options.storage)
    _, studies = single_objective_studies(options)
    reported = [(study, comparisons_of(study)) for study in studies]
    if len(reported) == 1:
        write_report(options.output, *reported[0])
    else:
        write_reports(options.output, f"{len(reported)} studies", reported)
    path = str(options.output)
    print(json.dumps({"report": path}) if options.json else printable(path))
