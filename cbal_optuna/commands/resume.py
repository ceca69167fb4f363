"""``resume``: a study taken up again, from what is stored alone."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from contextlib import redirect_stdout
import json
import sys

from optuna.study import Study

from cbal_optuna.command_line.description import StudyDescription
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.command_line.running import run_study
from cbal_optuna.command_line.running import SETTINGS
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import stored_studies
from cbal_optuna.retraining import is_comparison
from cbal_optuna.storage import masked
from cbal_optuna.study_result import StudyResult
from cbal_optuna.warm_start import OBJECTIVE


def add(commands: Commands[Parser]) -> None:
    parser = add_command(
        commands,
        "resume",
        run,
        "Take up a study that was interrupted, or go on to more trials; `--study` names it where "
        "there are several.",
        "sqlite:///cub200.db --study cub200 --n-trials 40 --root DIR. Options of the study may "
        "follow, as its script has them, and hold over those that it had",
        several=False,
    )
    parser.allow_abbrev = False
    parser.set_defaults(more=[])


def run(options: argparse.Namespace) -> None:
    storage, studies = stored_studies(options)
    if len(studies) > 1:
        names = ", ".join(repr(study.study_name) for study in studies)
        raise ValueError(
            f"`STORAGE` {masked(options.storage)} holds {names}; `--study` should name one."
        )
    (study,) = studies
    description = _description(study)
    parser = parser_of(description.script)
    parser.prog = f"python -m cbal_optuna resume {masked(options.storage)}"
    own = _options(parser, description, options, study.study_name)
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        status = run_study(parser, description.script, own)
    if options.json:
        print(json.dumps(StudyResult.of(study).to_dict(), indent=2))
    sys.exit(status)


def _options(
    parser: Parser, description: StudyDescription, options: argparse.Namespace, name: str
) -> argparse.Namespace:
    """Those of the study, as they were but for what the command line says."""
    place = {"storage": options.storage, "study_name": name}
    own = description.parsed(
        parser, [f"--storage={options.storage}", f"--study-name={name}", *options.more]
    )
    for option, value in place.items():
        if getattr(own, option) != value:
            parser.error(f"`--{option.replace('_', '-')}` is that of the study to resume.")
    root = getattr(own, "root", None)
    if root is not None and not root.is_dir() and not own.download:
        parser.error(
            f"The data of {name!r} are not in {root}; `--root` should say where they are."
        )
    return own


def _description(study: Study) -> StudyDescription:
    """How a study has been run last."""
    name = study.study_name
    if is_comparison(name):
        raise ValueError(
            f"`--study` is {name!r}, trainings with fresh seeds; it should be "
            f"{name.rpartition('.')[0]!r}, which goes on with them."
        )
    if not isinstance(study.user_attrs.get(OBJECTIVE), dict):
        raise ValueError(
            f"`--study` is {name!r}, which was not made by this package; it should be one that "
            "was."
        )
    settings = study.user_attrs.get(SETTINGS)
    if not isinstance(settings, dict):
        raise ValueError(
            f"`--study` is {name!r}, which was made in Python, by a script of your own or before "
            "studies kept their settings; what made it resumes it."
        )
    return StudyDescription.from_dict(settings)
