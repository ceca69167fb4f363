"""The folder of an exported model: written beside, then put in its place as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import shutil
import uuid

from cbal_optuna.export.timm_form import CONFIG
from cbal_optuna.export.timm_form import HEAD
from cbal_optuna.export.timm_form import OWN
from cbal_optuna.export.timm_form import WEIGHTS


CARD = "README.md"


def check_folder(folder: Path, *others: Path) -> None:
    """See that an export can be put there, as far as that can be told without writing.

    Args:
        folder:
            New, empty, or an earlier export, which the next one replaces.
        others:
            What must not be in that folder.

    Raises:
        OSError: It cannot.
    """
    place = folder.resolve()
    said = f"`export` folder {folder}"
    if not place.parent.is_dir():
        raise OSError(f"{said} cannot be made: {place.parent} is no folder.")
    if not os.access(place.parent, os.W_OK):
        raise OSError(f"{said} cannot be made: {place.parent} is read-only.")
    if place.is_mount():
        raise OSError(f"{said} is a mount point, which cannot be replaced; take one within it.")
    for other in (Path.cwd(), *others):
        if other.resolve().is_relative_to(place):
            raise OSError(f"{said} is replaced as a whole, but {other} lies in it.")
    if place.exists():
        _check_replaceable(place, said)


def _check_replaceable(place: Path, said: str) -> None:
    if not place.is_dir():
        raise OSError(f"{said} is a file; it should be a new folder or an earlier export.")
    # Whatever else is there, such as a licence, would be lost.
    files = {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}
    others = sorted(files - {WEIGHTS, HEAD, CONFIG, CARD})
    if others:
        raise OSError(
            f"{said} holds {others[0]!r}, which is no file of an export; it should be a new "
            "folder or an earlier export."
        )
    if files and not _is_ours(place / CONFIG):
        raise OSError(
            f"{said} holds another model; it should be a new folder or an earlier export."
        )


def _is_ours(config: Path) -> bool:
    try:
        return OWN in json.loads(config.read_text(encoding="utf-8"))
    except (FileNotFoundError, TypeError, ValueError):
        return False


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside, which takes the other's place in the end; if anything is
    raised, it is removed and the other stays.

    Raises:
        OSError: The folder cannot be replaced.
    """
    place = folder.resolve()
    part, old = (place.with_name(f".{uuid.uuid4().hex}.{kind}") for kind in ("part", "old"))
    part.mkdir()
    try:
        yield part
        check_folder(folder)
        if place.exists():
            place.rename(old)
        try:
            part.rename(place)
        except OSError:
            if old.exists():
                old.rename(place)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
