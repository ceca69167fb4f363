"""``export``: figures and trials of studies as files."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
import json
from pathlib import Path

from optuna.study import Study
import pandas as pd

from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.output import made_folder
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import single_objective_studies
from cbal_optuna.plain_text import printable
from cbal_optuna.report import drawn


_NEEDS = {"png": "kaleido", "svg": "kaleido", "parquet": "pyarrow"}


def add(commands: Commands[Parser]) -> None:
    parser = add_command(
        commands,
        "export",
        run,
        "Write the figures and the trials of studies as files.",
        "sqlite:///cub200.db -o cub200 --figures svg",
    )
    parser.add_argument(
        "-o", "--output", type=path, required=True, metavar="DIR", help="gets a folder a study"
    )
    parser.add_argument(
        "--figures",
        nargs="*",
        choices=("html", "png", "svg"),
        default=["html"],
        help="png and svg need kaleido and Chromium (default: html)",
    )
    parser.add_argument(
        "--trials",
        nargs="*",
        choices=("csv", "parquet"),
        default=["csv"],
        help="parquet needs pyarrow (default: csv)",
    )


def run(options: argparse.Namespace) -> None:
    for kind in (*options.figures, *options.trials):
        package = _NEEDS.get(kind)
        if package is not None and find_spec(package) is None:
            raise ValueError(
                f'{kind!r} needs {package}, which is not installed: pip install ".[export]".'
            )
    _, studies = single_objective_studies(options)
    made_folder(options.output)
    written = {}
    for study in studies:
        # Names may have any characters.
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in study.study_name)
        folder = made_folder(options.output / f"{study._study_id}-{name}"[:100])
        for kind in options.figures:
            _write_figures(folder, study, kind)
        for kind in options.trials:
            _write_trials(folder / f"trials.{kind}", study)
        written[study.study_name] = str(folder)
    print(
        json.dumps(written, indent=2) if options.json else printable("\n".join(written.values()))
    )


def _write_figures(folder: Path, study: Study, kind: str) -> None:
    for shown, figure in drawn(study):
        path = folder / f"{shown.name}.{kind}"
        if kind == "html":
            figure.write_html(path)
            continue
        figure.update_layout(paper_bgcolor="white")
        try:
            figure.write_image(path, width=900, height=figure.layout.height, scale=2)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{kind!r} cannot be drawn by kaleido: {reason}") from error


def _write_trials(path: Path, study: Study) -> None:
    trials = study.trials_dataframe()
    # What is in dictionaries and lists, as tables have it.
    trials = trials.map(lambda value: str(value) if isinstance(value, (dict, list)) else value)
    if path.suffix == ".csv":
        trials.to_csv(path, index=False)
    else:
        _plain(trials).to_parquet(path, index=False)


def _plain(trials: pd.DataFrame) -> pd.DataFrame:
    """Columns of several kinds of values as text: Parquet has one kind a column."""
    kinds = {name: trials[name].dropna().map(type).nunique() for name in trials}
    return trials.astype({name: str for name, n in kinds.items() if n > 1})
