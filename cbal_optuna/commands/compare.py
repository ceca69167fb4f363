"""``compare``: samplers compared on stored studies."""

from __future__ import annotations

import argparse
import json

from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.output import made_folder
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import single_objective_studies
from cbal_optuna.comparison import objective_of
from cbal_optuna.comparison import SamplerComparison
from cbal_optuna.report import comparison_text
from cbal_optuna.report import write_comparison


def add(commands: Commands[Parser]) -> None:
    parser = add_command(
        commands,
        "compare",
        run,
        "Compare how samplers searched, on studies of the same objective.",
        "sqlite:///digits.db -o comparison --json",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="DIR",
        help="gets the figure and the tables (default: none are written)",
    )


def run(options: argparse.Namespace) -> None:
    _, studies = single_objective_studies(options)
    n_objectives = len(set(map(objective_of, studies)))
    if n_objectives > 1:
        raise ValueError(
            f"The {len(studies)} studies have {n_objectives} objectives; `--study` should name "
            "those of a single one."
        )
    comparison = SamplerComparison.of(studies)
    if options.output is not None:
        write_comparison(made_folder(options.output), comparison, "Samplers compared")
    if options.json:
        rows = comparison.table().rename_axis("sampler").reset_index()
        print(json.dumps(json.loads(rows.to_json(orient="records")), indent=2))
    else:
        print(comparison_text(comparison))
