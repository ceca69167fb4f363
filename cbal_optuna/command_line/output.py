"""Folders and files that a command line names."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cbal_optuna.export import check_folder
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import sqlite_file


def made_folder(path: Path) -> Path:
    """That of ``--output``, made if need be.

    Raises:
        ValueError: It cannot be made or written to.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"`--output` is {str(path)!r}, a file; it should be a folder.")
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`--output` is {str(path)!r}, which cannot be made: {error.strerror}."
        ) from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"`--output` is {str(path)!r}; it should be a folder to write to.")
    return path


def check_folder_to_make(option: str, path: Path) -> None:
    """See that a folder is there or can be made, those above it included.

    Args:
        option:
            That names the folder.
        path:
            The folder.

    Raises:
        ValueError: It cannot.
    """
    place = path.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"`{option}` is {str(path)!r}, but {str(place)!r} is no folder.")
    if not os.access(place, os.W_OK):
        raise ValueError(f"`{option}` is {str(path)!r}, but {str(place)!r} is read-only.")


def check_report(option: str, path: Path, storage: str) -> None:
    """See that a report can be written, and over nothing but a report.

    Args:
        option:
            That names the file.
        path:
            The file.
        storage:
            The URL of the studies, which may be a file too.

    Raises:
        ValueError: It cannot.
    """
    said = f"`{option}` is {str(path)!r}"
    report, database = path.resolve(), sqlite_file(storage)
    if report.is_dir() or not report.parent.is_dir() or not os.access(report.parent, os.W_OK):
        raise ValueError(
            f"{said}; it should be a file in a folder that exists and can be written to."
        )
    # A path is not resolved where links lead in a circle.
    if database is not None and os.path.realpath(database) == str(report):
        raise ValueError(f"{said}, the database of the studies; it should be another file.")
    if report.exists() and report.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"{said}, a file that is there and no .html file; it should be another one."
        )


def check_places(options: argparse.Namespace) -> bool:
    """See that report, cache, checkpoints, storage and export can be written to, before anything
    is, and whether the storage exists.

    Raises:
        ValueError: One of the first four cannot.
        OSError: The export cannot.
    """
    check_report("--report", options.report, options.storage)
    check_folder_to_make("--cache-dir", options.cache_dir)
    check_folder_to_make("--checkpoint-dir", options.checkpoint_dir)
    exists = check_storage(options.storage)
    if options.export is not None:
        weights = Path(options.weights)
        kept = [options.report, sqlite_file(options.storage), options.cache_dir]
        kept.append(options.checkpoint_dir)
        kept += [weights] * weights.is_file()
        check_folder(options.export, *(path for path in kept if path is not None))
    return exists
