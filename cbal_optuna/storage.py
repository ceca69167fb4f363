"""Storages for studies, databases and proxies of them: checked before anything is written, and
able to go on after a worker was killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from contextlib import suppress
import os
from pathlib import Path
import sqlite3
from typing import Any
import warnings
import weakref

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.storages import fail_stale_trials
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from sqlalchemy import Connection
from sqlalchemy import create_engine
from sqlalchemy import Engine
from sqlalchemy import event
from sqlalchemy import inspect
from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import NoSuchModuleError

from cbal_optuna.proxy import StorageProxy


# A worker gives a sign of life every so many seconds; after three are missing its trial is
# retried.
HEARTBEAT_SECONDS = 30
# Of a proxy, where its URL names none: Optuna's.
PROXY_PORT = 13000
_MAX_RETRIES = 3
# How long a writer of a sqlite file waits for another.
_SQLITE_TIMEOUT_SECONDS = 60
_LOCAL_FILE_SYSTEMS = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")
# How long a proxy may take to answer for the first time.
_PROXY_TIMEOUT_SECONDS = 20
# The driver that is meant where a URL names none, as this package's extras install them.
_DRIVERS = {"postgresql": "psycopg2", "mysql": "pymysql", "mariadb": "pymysql"}
# The extra with which a package is installed.
_EXTRAS = {"psycopg2": "postgresql", "pymysql": "mysql", "grpc": "grpc", "google": "grpc"}

Storage = RDBStorage | StorageProxy


def check_storage(url: str) -> bool:
    """Whether a database holds studies already; nothing is written.

    Raises:
        ValueError: The URL is malformed, its driver is not installed, the database is in memory,
            cannot be reached or written to, or holds the tables of another program; or a proxy
            does not answer.
    """
    parsed = _parsed(url)
    if _is_proxy(parsed):
        with closing(_proxy(parsed)) as proxy:
            return bool(proxy.get_all_studies())
    with _one_sentence(url):
        # Loads the driver and reads the options, without connecting.
        create_engine(parsed).dialect.create_connect_args(parsed)
    if parsed.get_backend_name() == "sqlite" and not _sqlite_file_exists(parsed):
        return False
    tables = _tables(url)
    foreign = (
        tables - {"version_info"}
        if parsed.get_backend_name() == "sqlite"
        else tables
        & {
            "studies",
            "trials",
        }
    )
    if foreign and "version_info" not in tables:
        raise ValueError(
            f"`storage` {masked(url)} holds tables of another program ({min(foreign)!r}); it "
            "should be a database of its own."
        )
    return "studies" in tables


def open_storage(url: str) -> Storage:
    """The storage of a URL, made if need be: of a database, as SQLAlchemy names it, or
    ``grpc://HOST:PORT`` of ``python -m cbal_optuna serve-storage``.

    Workers show that they are alive; the trial of one that was killed is failed and evaluated
    again by another.

    Raises:
        ValueError: The database cannot be opened, or was made by a version of Optuna with another
            schema; or the proxy does not answer.
    """
    parsed = _parsed(url)
    if _is_proxy(parsed):
        return _proxy(parsed)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {}
    if is_sqlite:
        arguments = {"connect_args": {"timeout": _SQLITE_TIMEOUT_SECONDS}}
    elif parsed.get_backend_name() in ("mysql", "mariadb"):
        # By default a transaction goes on seeing what its first statement saw, and is refused
        # when it then writes to a row that another has changed.
        arguments = {"isolation_level": "READ COMMITTED"}
    with warnings.catch_warnings(), _one_sentence(url):
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = RDBStorage(
            parsed.render_as_string(hide_password=False),
            engine_kwargs=arguments,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=3 * HEARTBEAT_SECONDS,
            **_retry_callback(),
        )
    if is_sqlite:
        _share(storage.engine)
        # At the exit of the process, if not before.
        weakref.finalize(storage, storage.engine.dispose)
    return storage


def close_storage(storage: Storage) -> None:
    """Let go of its connections."""
    if isinstance(storage, StorageProxy):
        storage.close()
    else:
        storage.engine.dispose()


def ask(study: Study) -> Trial:
    """Optuna's, for those who see to it that the trial gives signs of life."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        return study.ask()


def retry(study: Study, trial: FrozenTrial, reason: str) -> None:
    """Fail the trial of a worker that is known to be dead, and queue it again, a few times."""
    if not trial.state.is_finished():
        study._storage.set_trial_user_attr(trial._trial_id, "failure", reason)
        study.tell(trial.number, state=TrialState.FAIL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        for callback in _retry_callback().values():
            callback(study, trial)


def retry_stale_trials(study: Study, storage: Storage) -> None:
    """Do so with the trials of workers that have given no sign of life for long."""
    if isinstance(storage, RDBStorage):
        _begin_heartbeats(study, storage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)


def engine_of(storage: BaseStorage) -> Engine | None:
    """That of a database, also behind Optuna's cache; :obj:`None` for other storages."""
    backend = getattr(storage, "_backend", storage)
    return backend.engine if isinstance(backend, RDBStorage) else None


def masked(url: str) -> str:
    """The URL without its password."""
    return _parsed(url).render_as_string(hide_password=True)


def sqlite_file(url: str) -> Path | None:
    """That of a URL; :obj:`None` if it is of another database."""
    parsed = _parsed(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def _proxy(url: URL) -> StorageProxy:
    host = str(url.host)
    with warnings.catch_warnings(), _one_sentence(str(url)):
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = StorageProxy(
            f"[{host}]" if ":" in host else host,
            url.port or PROXY_PORT,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            grace_seconds=3 * HEARTBEAT_SECONDS,
            on_stale=next(iter(_retry_callback().values())),
        )
        proxy.wait_server_ready(_PROXY_TIMEOUT_SECONDS)
    return proxy


def _begin_heartbeats(study: Study, storage: RDBStorage) -> None:
    """A worker that was killed before its first sign of life has none to be missed, so it gets
    one."""
    with storage.engine.connect() as connection:
        known = set(connection.exec_driver_sql("SELECT trial_id FROM trial_heartbeats").scalars())
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial._trial_id not in known:
            storage.record_heartbeat(trial._trial_id)


def _share(engine: Engine) -> None:
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


def _parsed(url: str) -> URL:
    """With the driver that it means."""
    try:
        parsed = make_url(url)
        if _is_proxy(parsed) and parsed.host:
            return parsed
        driver = _DRIVERS.get(parsed.drivername)
        if driver is not None:
            parsed = parsed.set(drivername=f"{parsed.drivername}+{driver}")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # The URL itself may hold a password, so it is not repeated.
        raise ValueError(
            "`storage` is no URL of a database that SQLAlchemy knows; it should look like "
            "sqlite:///study.db, postgresql://user:password@host/database or grpc://host:port."
        ) from error
    return parsed


def _is_proxy(url: URL) -> bool:
    return url.drivername == "grpc"


def _sqlite_file_exists(url: URL) -> bool:
    """Connecting would make the file."""
    if url.database in (None, "", ":memory:"):
        raise ValueError("`storage` is in memory, where nothing is kept; it should be a file.")
    path = Path(str(url.database))
    place = path if path.exists() else path.parent
    if not path.exists() and not place.is_dir():
        raise ValueError(f"`storage` file {path} cannot be made: {place} is no folder.")
    if not os.access(place, os.W_OK):
        raise ValueError(f"`storage` file {path} cannot be written: {place} is read-only.")
    return path.exists()


def _tables(url: str) -> set[str]:
    with _one_sentence(url), create_engine(_parsed(url)).connect() as connection:
        return set(inspect(connection).get_table_names())


@contextmanager
def _one_sentence(url: str) -> Iterator[None]:
    """Turns what drivers raise, errors of many kinds, into one."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(str(error.name))
        remedy = "" if extra is None else f': pip install ".[{extra}]"'
        raise ValueError(
            f"`storage` {masked(url)} needs the package {error.name}, which is not installed"
            f"{remedy}."
        ) from error
    except Exception as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise ValueError(f"`storage` {masked(url)} cannot be used: {reason}") from error


def _retry_callback() -> dict[str, Any]:
    """The argument of RDBStorage, by its name in this version of Optuna."""
    retry = getattr(optuna.storages, "RetryHeartbeatStaleTrialCallback", None)
    if retry is not None:
        return {"heartbeat_stale_trial_callback": retry(max_retry=_MAX_RETRIES)}
    return {"failed_trial_callback": optuna.storages.RetryFailedTrialCallback(_MAX_RETRIES)}
