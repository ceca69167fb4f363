"""Storages for studies, databases and proxies of them: checked before anything is written, and
opened such that the trials of dead workers are retried."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from pathlib import Path
import random
import re
import time
from typing import Any
import warnings
import weakref

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.storages import RDBStorage
from sqlalchemy import create_engine
from sqlalchemy import Engine
from sqlalchemy import inspect
from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.exc import SQLAlchemyError

from cbal_optuna import passwords
from cbal_optuna import sqlite_files
from cbal_optuna.patient_storage import PatientStorage
from cbal_optuna.patient_storage import reason_of
from cbal_optuna.proxy import StorageProxy
from cbal_optuna.schema import foreign_tables
from cbal_optuna.schema import schema_complaint
from cbal_optuna.stored_trials import retry_callback


# A worker gives a sign of life every so many seconds; after three are missing its trial is
# retried.
HEARTBEAT_SECONDS = 30
# Of a proxy, where its URL names none: Optuna's.
PROXY_PORT = 13000
# How often to open a database that others, too, are making at this moment.
_MAX_OPENINGS = 20
# How long a proxy may take to answer for the first time.
_PROXY_TIMEOUT_SECONDS = 20
_HOST = re.compile(r"[\w.:-]+", re.ASCII)
# The driver that is meant where a URL names none, as this package's extras install them.
_DRIVERS = {"postgresql": "psycopg2", "mysql": "pymysql", "mariadb": "pymysql"}
# The extra with which a package is installed.
_EXTRAS = {"psycopg2": "postgresql", "pymysql": "mysql", "grpc": "grpc", "google": "grpc"}

Storage = PatientStorage | StorageProxy


def check_storage(url: str, *, to_read: bool = False) -> bool:
    """Whether a database holds studies already; nothing is written.

    Args:
        url:
            Of the database.
        to_read:
            Whether it is enough that it can be read.

    Raises:
        ValueError: The URL is malformed, its driver is not installed, the database is in memory,
            cannot be reached, read or written to, holds the tables of another program, or those
            of another version of Optuna; or a proxy does not answer.
    """
    parsed = _parsed(url)
    if _is_proxy(parsed):
        with closing(_proxy(parsed, lambda: None)) as proxy:
            return bool(proxy.get_all_studies())
    with _one_sentence(url):
        # Loads the driver and reads the options, without connecting.
        create_engine(parsed).dialect.create_connect_args(parsed)
    is_file = parsed.get_backend_name() == "sqlite"
    if is_file and not sqlite_files.exists(parsed, to_read=to_read):
        return False
    engine = create_engine(_location(parsed, to_read=to_read))
    with _one_sentence(url), engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        foreign = foreign_tables(tables, shared=not is_file)
        complaint = None if foreign else schema_complaint(connection, tables, masked(url))
    engine.dispose()
    if foreign:
        raise ValueError(
            f"`storage` {masked(url)} holds tables of another program ({min(foreign)!r}); it "
            "should be a database of its own."
        )
    if complaint is not None:
        raise ValueError(complaint)
    return "studies" in tables


def open_storage(
    url: str, *, to_read: bool = False, while_waiting: Callable[[], None] = lambda: None
) -> Storage:
    """The storage of a URL, made if need be: of a database, as SQLAlchemy names it, or
    ``grpc://HOST:PORT`` of ``python -m cbal_optuna serve-storage``.

    Workers show that they are alive; the trial of one that was killed is failed and evaluated
    again by another. A server that is stopped is waited for.

    Args:
        url:
            Of the database.
        to_read:
            Whether its studies are only looked at, so that a sqlite file that cannot be written
            will do.
        while_waiting:
            Called every second while the server is away; what it raises ends the waiting.

    Raises:
        ValueError: The database cannot be opened, or was made by a version of Optuna with another
            schema; or the proxy does not answer.
    """
    parsed = _parsed(url)
    if _is_proxy(parsed):
        return _proxy(parsed, while_waiting)
    location = _location(parsed, to_read=to_read)
    with warnings.catch_warnings(), _one_sentence(url):
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = _opened(
            location.render_as_string(hide_password=False),
            while_waiting=while_waiting,
            engine_kwargs=_engine_arguments(location),
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=3 * HEARTBEAT_SECONDS,
            **retry_callback(),
        )
    if sqlite_files.file_of(location) is not None:
        if location == parsed:
            sqlite_files.share(storage.engine)
        # At the exit of the process, if not before.
        weakref.finalize(storage, storage.engine.dispose)
    return storage


def close_storage(storage: Storage) -> None:
    """Let go of its connections."""
    if isinstance(storage, StorageProxy):
        storage.close()
    else:
        storage.engine.dispose()


def _engine_arguments(url: URL) -> dict[str, Any]:
    """Of SQLAlchemy, for the database of a URL."""
    match url.get_backend_name():
        case "sqlite":
            return {"connect_args": {"timeout": sqlite_files.TIMEOUT_SECONDS}}
        case "mysql" | "mariadb":
            # By default a transaction goes on seeing what its first statement saw, and is refused
            # when it then writes to a row that another has changed.
            return {"isolation_level": "READ COMMITTED"}
    return {}


def _opened(url: str, **arguments: Any) -> PatientStorage:
    """Opened again where another process has made a table that this one was about to make."""
    for _ in range(_MAX_OPENINGS):
        try:
            return PatientStorage(url, **arguments)
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(random.uniform(0.0, 0.2))
    return PatientStorage(url, **arguments)


def _location(url: URL, *, to_read: bool) -> URL:
    """Where to connect to: a file that can only be read is not to be written."""
    path = sqlite_files.file_of(url)
    if to_read and path is not None and not sqlite_files.is_writable(path):
        return sqlite_files.to_be_read(url)
    return url


def engine_of(storage: BaseStorage) -> Engine | None:
    """That of a database, also behind Optuna's cache; :obj:`None` for other storages."""
    backend = getattr(storage, "_backend", storage)
    return backend.engine if isinstance(backend, RDBStorage) else None


def masked(url: str) -> str:
    """The URL without its password and its options."""
    return passwords.masked(_parsed(url))


def sqlite_file(url: str) -> Path | None:
    """That of a URL; :obj:`None` if it is of another database."""
    return sqlite_files.file_of(_parsed(url))


def _proxy(url: URL, while_waiting: Callable[[], None]) -> StorageProxy:
    host = str(url.host)
    with warnings.catch_warnings(), _one_sentence(str(url)):
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = StorageProxy(
            f"[{host}]" if ":" in host else host,
            url.port or PROXY_PORT,
            while_waiting=while_waiting,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            grace_seconds=3 * HEARTBEAT_SECONDS,
            on_stale=next(iter(retry_callback().values())),
        )
        try:
            proxy.wait_server_ready(_PROXY_TIMEOUT_SECONDS)
        except ConnectionError:
            proxy.close()
            raise ConnectionError(
                f"nobody has answered for {_PROXY_TIMEOUT_SECONDS} seconds"
            ) from None
    return proxy


def _parsed(url: str) -> URL:
    """With the driver that it means."""
    try:
        parsed = make_url(url)
        if _is_proxy(parsed):
            return _checked_proxy(parsed)
        driver = _DRIVERS.get(parsed.drivername)
        if driver is not None:
            parsed = parsed.set(drivername=f"{parsed.drivername}+{driver}")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # The URL itself may hold a password, so it is not repeated.
        raise ValueError(
            "`storage` is no URL of a database that SQLAlchemy knows; it should look like "
            "sqlite:///study.db, postgresql://user:***@host/database or grpc://host:port."
        ) from error
    # Else a part of a password or an option could be taken for the host, and said.
    if parsed.username is not None and set(url.partition("://")[2].rpartition("@")[0]) & set(
        "@/?"
    ):
        raise ValueError(
            "`storage` has '@', '/' or '?' in its user, password or options; there they should be "
            "'%40', '%2F' or '%3F'."
        )
    return parsed


def _is_proxy(url: URL) -> bool:
    return url.drivername == "grpc"


def _checked_proxy(url: URL) -> URL:
    """Its URL, if it is of the form that is documented; ArgumentError if not."""
    beside = url.username, url.password, url.database or None, url.query or None
    is_port = url.port is None or 0 < url.port < 2**16
    if beside != (None,) * 4 or not is_port or _HOST.fullmatch(url.host or "") is None:
        raise ArgumentError("only a host and a port are meant")
    return url


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
        reason = passwords.without_passwords(reason_of(error), _parsed(url))
        raise ValueError(f"`storage` {masked(url)} cannot be used: {reason}") from error
