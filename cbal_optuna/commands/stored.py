"""The studies that a command line names, out of the storage that it names."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import optuna
from optuna.study import Study

from cbal_optuna.command_line.argument_types import place
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.retraining import is_comparison
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import masked
from cbal_optuna.storage import open_storage
from cbal_optuna.storage import Storage


Commands = argparse._SubParsersAction


def add_command(
    commands: Commands[Parser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    description: str,
    example: str,
    *,
    several: bool = True,
) -> Parser:
    """A command that takes a storage and names of studies.

    Args:
        commands, name:
            Of the command.
        run:
            Does it.
        description:
            What it does, in a sentence.
        example:
            Its arguments, for ``--help``.
        several:
            Whether it takes several studies.
    """
    parser = commands.add_parser(
        name,
        help=description,
        description=description,
        epilog=f"example: python -m cbal_optuna {name} {example}",
    )
    parser.add_argument(
        "storage",
        type=place,
        metavar="STORAGE",
        help="URL of the database, as sqlite:///cub200.db, or of its proxy",
    )
    parser.add_argument(
        "--study",
        nargs="+" if several else 1,
        default=[],
        metavar="NAME",
        help=f"(default: {'all' if several else 'the only one'}, but for those that hold "
        "trainings with fresh seeds)",
    )
    parser.add_argument("--json", action="store_true", help="say the result as JSON")
    parser.set_defaults(run=run, more=None)
    return parser


def stored_studies(
    options: argparse.Namespace, *, to_read: bool = True
) -> tuple[Storage, list[Study]]:
    """The storage and the studies of a command line.

    Args:
        options:
            Of the command line.
        to_read:
            Whether they are only looked at, so that a file that cannot be written will do.

    Raises:
        ValueError: The storage cannot be used, or there is no such study.
    """
    if not check_storage(options.storage, to_read=to_read):
        raise ValueError(
            f"`STORAGE` {masked(options.storage)} holds no studies; it should be the database of "
            "one."
        )
    storage = open_storage(options.storage, to_read=to_read)
    names = optuna.get_all_study_names(storage)
    wanted = options.study or [name for name in names if not is_comparison(name)]
    for name in wanted:
        if name not in names:
            raise ValueError(
                f"`--study` is {name!r}; it should be one of {', '.join(map(repr, names))}."
            )
    if not wanted:
        raise ValueError(f"`STORAGE` {masked(options.storage)} holds no studies.")
    return storage, [optuna.load_study(study_name=name, storage=storage) for name in wanted]


def single_objective_studies(options: argparse.Namespace) -> tuple[Storage, list[Study]]:
    """The same, for what can be said of a single objective only.

    Raises:
        ValueError: As above, or a study has several.
    """
    storage, studies = stored_studies(options)
    for study in studies:
        if len(study.directions) > 1:
            raise ValueError(
                f"{study.study_name!r} has {len(study.directions)} objectives; `--study` should "
                "name studies of a single one."
            )
    return storage, studies
