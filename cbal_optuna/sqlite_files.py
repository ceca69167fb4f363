"""Sqlite files that several processes write, or that may only be read."""

from __future__ import annotations

from contextlib import suppress
import os
from pathlib import Path
import sqlite3
from urllib.parse import unquote

from sqlalchemy import Connection
from sqlalchemy import Engine
from sqlalchemy import event
from sqlalchemy import URL


# How long a writer of a sqlite file waits for another.
TIMEOUT_SECONDS = 60
_LOCAL_FILE_SYSTEMS = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")


def file_of(url: URL) -> Path | None:
    """The file of a sqlite database; :obj:`None` if it is another one."""
    if url.get_backend_name() != "sqlite":
        return None
    name = str(url.database)
    # As :func:`to_be_read` names it.
    return Path(unquote(name.removeprefix("file:")) if "uri" in url.query else name)


def exists(url: URL, *, to_read: bool) -> bool:
    """Whether the file is there; connecting would make it.

    Raises:
        ValueError: There is none to be, or it can neither be read nor made.
    """
    if url.database in (None, "", ":memory:"):
        raise ValueError("`storage` is in memory, where nothing is kept; it should be a file.")
    path = Path(str(url.database))
    if not path.exists() and not path.parent.is_dir():
        raise ValueError(f"`storage` file {path} cannot be made: {path.parent} is no folder.")
    if not to_read and not is_writable(path):
        place = path if path.exists() else path.parent
        raise ValueError(f"`storage` file {path} cannot be written: {place} is read-only.")
    return path.exists()


def is_writable(path: Path) -> bool:
    """Whether a file can be; its journal has to be made beside it."""
    return all(os.access(p, os.W_OK) for p in (path, path.parent) if p.exists())


def to_be_read(url: URL) -> URL:
    """The URL of the same file for a connection that cannot write, nor make files beside it."""
    path = Path(str(url.database)).resolve()
    query = {**url.query, "mode": "ro", "uri": "true"}
    if not path.with_name(f"{path.name}-wal").exists():
        # Else one that has had a write-ahead log would want it back.
        query["immutable"] = "1"
    return url.set(database=path.as_uri().replace("file://", "file:"), query=query)


def share(engine: Engine) -> None:
    """Make a sqlite file fit for several writers.

    Each transaction takes the file's one lock at its beginning. Optuna reads that a trial waits
    and then writes that it runs; other databases lock the row in between, but here two workers
    could take the same trial.

    As a trial writes some thirty times, the file has a write-ahead log where that is safe: it
    does not wait for the disk each time. The log is gone when the last connection is closed.
    """
    is_local = _is_on_local_disk(Path(str(engine.url.database)))

    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, record: object) -> None:
        # The driver's own transactions begin with the first writing.
        connection.isolation_level = None
        if is_local:
            # Who finds the file in use leaves it to the next.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()


def _is_on_local_disk(path: Path) -> bool:
    """Whether it is known to be, as on Linux it is. A write-ahead log is kept in memory that all
    processes map, which those of several machines cannot."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    above = [(len(place), kind) for place, kind in mounts if path.resolve().is_relative_to(place)]
    return max(above)[1] in _LOCAL_FILE_SYSTEMS
