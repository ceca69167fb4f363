"""RDB storages for studies: checked before anything is written, and able to go on after a worker
was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from sqlalchemy import create_engine
from sqlalchemy import inspect
from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.exc import SQLAlchemyError


# A worker gives a sign of life every so many seconds; after three are missing its trial is
# retried.
HEARTBEAT_SECONDS = 30
_MAX_RETRIES = 3
# How long a writer of a sqlite file waits for another.
_SQLITE_TIMEOUT_SECONDS = 60


def check_storage(url: str) -> bool:
    """Whether a database holds studies already; nothing is written.

    Raises:
        ValueError: The URL is malformed, its driver is not installed, or the database cannot be
            reached.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and not _sqlite_file_exists(parsed):
        return False
    try:
        engine = create_engine(parsed)
        with engine.connect() as connection:
            return inspect(connection).has_table("studies")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"`storage` {masked(url)} needs the package {error.name}, which is not installed."
        ) from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ValueError(f"`storage` {masked(url)} cannot be used: {reason}") from error


def open_storage(url: str) -> RDBStorage:
    """The storage of a URL, made if need be.

    Workers show that they are alive; the trial of one that was killed is failed and evaluated
    again by another.

    Raises:
        ValueError: The database was made by a version of Optuna with another schema.
    """
    is_sqlite = _parsed(url).get_backend_name() == "sqlite"
    arguments = {"connect_args": {"timeout": _SQLITE_TIMEOUT_SECONDS}} if is_sqlite else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return RDBStorage(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=3 * HEARTBEAT_SECONDS,
                **_retry_callback(),
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"`storage` {masked(url)} cannot be used: {reason}") from error


def masked(url: str) -> str:
    """The URL without its password."""
    return _parsed(url).render_as_string(hide_password=True)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # The URL itself may hold a password, so it is not repeated.
        raise ValueError(
            "`storage` is no URL of a database that SQLAlchemy knows; it should look like "
            "sqlite:///study.db or postgresql+psycopg2://user:password@host/database."
        ) from error
    return parsed


def _sqlite_file_exists(url: URL) -> bool:
    """Connecting would make the file."""
    if url.database in (None, "", ":memory:"):
        return False
    path = Path(str(url.database))
    if not path.exists() and not path.parent.is_dir():
        raise ValueError(f"`storage` file {path} cannot be made: {path.parent} is no folder.")
    return path.exists()


def _retry_callback() -> dict[str, Any]:
    """The argument of RDBStorage, by its name in this version of Optuna."""
    retry = getattr(optuna.storages, "RetryHeartbeatStaleTrialCallback", None)
    if retry is not None:
        return {"heartbeat_stale_trial_callback": retry(max_retry=_MAX_RETRIES)}
    return {"failed_trial_callback": optuna.storages.RetryFailedTrialCallback(_MAX_RETRIES)}
