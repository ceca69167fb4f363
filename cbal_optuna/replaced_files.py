"""Files that appear as a whole: written beside, then put in their place by one rename.

A file being written is locked, so that what a process left behind that was killed can be told from
what another one writes at the moment. Where there are no such locks, nothing is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
import glob
import os
from pathlib import Path
import sys
from uuid import uuid4
import zlib


if sys.platform != "win32":
    import fcntl


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Gives the file to write, which takes the place of ``path`` in the end. If anything is
    raised, it is removed and the old one stays.

    Raises:
        OSError: It cannot be written.
    """
    with part_of(path) as part:
        yield part
        part.replace(path)


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """The same, for those who know only afterwards what to call it; ``path`` is what it is for."""
    remove_abandoned(path)
    part = path.with_name(f"{_prefix(path)}.{uuid4().hex}.part")
    try:
        with _locked(part):
            yield part
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Remove what nobody goes on writing for ``path``."""
    remove_abandoned_in(path.parent, _prefix(path))


def remove_abandoned_in(folder: Path, prefix: str = ".????????") -> None:
    """Remove what nobody goes on writing for any file in ``folder``."""
    for name in glob.glob(f"{glob.escape(str(folder))}/{prefix}.{'[0-9a-f]' * 32}.part"):
        # Others may have removed it, or may not share it.
        with suppress(OSError):
            _remove_unless_locked(Path(name))


def _prefix(path: Path) -> str:
    """Short: the name itself may be as long as names can be."""
    return f".{zlib.crc32(os.fsencode(path.name)):08x}"


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    while True:
        with part.open("wb") as file:
            # Some network drives have no locks.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            # Else somebody took it for abandoned before it was locked.
            if part.exists():
                yield
                return


def _remove_unless_locked(part: Path) -> None:
    if sys.platform == "win32":
        return
    with part.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
