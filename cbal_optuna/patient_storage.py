"""An RDB storage that waits for its server, and says in one sentence what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
import threading
import time
from typing import Any
from typing import TypeVar
import warnings

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.storages import RDBStorage
from sqlalchemy import make_url
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import InterfaceError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.exc import SQLAlchemyError

from cbal_optuna.passwords import masked
from cbal_optuna.passwords import without_passwords
from cbal_optuna.stored_trials import note_silence


# How long a server may be away.
PATIENCE_SECONDS = 300.0
_PAUSE_SECONDS = 1.0
# What Optuna's cache asks an RDB storage for, beside what it asks any for.
_OF_THE_CACHE = ("_create_new_trial", "_get_best_trial_id", "_get_trials", "_set_trial_param")

Result = TypeVar("Result")


class StorageUnavailableError(StorageInternalError):
    """A database cannot be used, and waiting has not helped or would not help."""


class PatientStorage(RDBStorage):
    """Optuna's, on a server that may be stopped and started again while it is in use.

    What is asked of a server that is away is asked again until it answers, for five minutes at
    most; after that a single time. A file has no server, and is not waited for.

    Args:
        url:
            Of the database.
        while_waiting:
            Called every second; what it raises ends the waiting.
        arguments:
            Of Optuna's storage; there must be a heartbeat.
    """

    def __init__(self, url: str, *, while_waiting: Callable[[], None], **arguments: Any) -> None:
        self._while_waiting = while_waiting
        self._url = make_url(url)
        self._name = masked(self._url)
        self._threads_inside = set[int]()
        self._is_lost = False
        self._last_missed = -float("inf")
        super().__init__(url, **arguments)

    def patiently(self, operation: Callable[[], Result]) -> Result:
        """Do something with the database; all of it again after the server was away.

        Raises:
            StorageUnavailableError: The server stays away, or something else is wrong.
        """
        thread = threading.get_ident()
        # One operation may be a part of another, whose transaction is lost as well.
        if thread in self._threads_inside:
            return operation()
        self._threads_inside.add(thread)
        try:
            return self._until_it_answers(operation)
        finally:
            self._threads_inside.remove(thread)

    def _until_it_answers(self, operation: Callable[[], Result]) -> Result:
        deadline: float | None = None
        while True:
            try:
                result = operation()
            except (StorageInternalError, SQLAlchemyError) as error:
                now = time.monotonic()
                if not self._is_away(error):
                    raise StorageUnavailableError(
                        f"`storage` {self._name} cannot be used: {self._reason(error)}"
                    ) from error
                self.scoped_session.remove()
                self._last_missed = now
                if deadline is None:
                    deadline = now if self._is_lost else now + PATIENCE_SECONDS
                    self._say(error)
                if now >= deadline:
                    self._is_lost = True
                    raise StorageUnavailableError(
                        f"`storage` {self._name} has not answered for {PATIENCE_SECONDS:.0f} "
                        f"seconds ({self._reason(error)}); what it holds is kept, and the same "
                        "command goes on with it"
                    ) from error
                self._while_waiting()
                time.sleep(_PAUSE_SECONDS)
            else:
                self._is_lost = False
                return result

    def _say(self, error: Exception) -> None:
        if not self._is_lost:
            warnings.warn(
                f"`storage` {self._name} does not answer ({self._reason(error)}); it is waited "
                f"for, {PATIENCE_SECONDS:.0f} seconds at most",
                stacklevel=2,
            )

    def _reason(self, error: Exception) -> str:
        return without_passwords(reason_of(error), self._url)

    def _is_away(self, error: BaseException) -> bool:
        if self.engine.dialect.name == "sqlite":
            return False
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        return isinstance(cause, (OperationalError, InterfaceError, PendingRollbackError)) or (
            isinstance(cause, DBAPIError) and cause.connection_invalidated
        )

    def record_heartbeat(self, trial_id: int) -> None:
        """Or not, if it cannot be done at once: the next one is soon."""
        try:
            super().record_heartbeat(trial_id)
        except StorageInternalError:
            self.scoped_session.remove()
            self._last_missed = time.monotonic()

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Those that are to be given up, which are told why.

        A worker that was killed before its first sign of life has none to be missed, so it gets
        one here. While the server was away nobody could give any; then all have time to.
        """
        assert self.heartbeat_interval is not None
        for trial_id in self.patiently(lambda: self._without_heartbeat(study_id)):
            self.record_heartbeat(trial_id)
        stale = self.patiently(lambda: RDBStorage._get_stale_trial_ids(self, study_id))
        if time.monotonic() - self._last_missed < 2 * self.heartbeat_interval:
            return []
        note_silence(self, stale, self.grace_period)
        return stale

    def _without_heartbeat(self, study_id: int) -> list[int]:
        with self.engine.connect() as connection:
            statement = text(
                "SELECT trial_id FROM trials WHERE study_id = :study_id AND state = 'RUNNING' "
                "AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
            )
            return list(connection.execute(statement, {"study_id": study_id}).scalars())


def reason_of(error: BaseException) -> str:
    """What a driver says, in one line."""
    cause = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
    return " ".join(str(getattr(cause, "orig", None) or cause).split())


def _patient(method: Callable[..., Result]) -> Callable[..., Result]:
    @wraps(method)
    def patient(storage: PatientStorage, *arguments: Any, **named: Any) -> Result:
        return storage.patiently(lambda: method(storage, *arguments, **named))

    return patient


for _name, _method in vars(RDBStorage).items():
    if _name in _OF_THE_CACHE or (_name in vars(BaseStorage) and not _name.startswith("_")):
        setattr(PatientStorage, _name, _patient(_method))
