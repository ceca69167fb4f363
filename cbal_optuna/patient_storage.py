"""An RDB storage that waits for its server, and says in one sentence what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
import threading
from typing import Any
from typing import TypeVar

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
from cbal_optuna.patience import Patience
from cbal_optuna.patience import ServerAwayError
from cbal_optuna.patience import StorageUnavailableError
from cbal_optuna.stored_trials import note_silence


# What Optuna's cache asks an RDB storage for, beside what it asks any for.
_OF_THE_CACHE = ("_create_new_trial", "_get_best_trial_id", "_get_trials", "_set_trial_param")

Result = TypeVar("Result")


class PatientStorage(RDBStorage):
    """Optuna's, on a server that may be stopped and started again while it is in use.

    A file has no server, and is not waited for.

    Args:
        url:
            Of the database.
        while_waiting:
            Called every second; what it raises ends the waiting.
        arguments:
            Of Optuna's storage; there must be a heartbeat.
    """

    def __init__(self, url: str, *, while_waiting: Callable[[], None], **arguments: Any) -> None:
        self._url = make_url(url)
        self._name = masked(self._url)
        self._patience = Patience(self._name, while_waiting)
        self._threads_inside = set[int]()
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
            return self._patience.until_it_answers(lambda: self._once(operation))
        finally:
            self._threads_inside.remove(thread)

    def _once(self, operation: Callable[[], Result]) -> Result:
        try:
            return operation()
        except (StorageInternalError, SQLAlchemyError) as error:
            reason = self._reason(error)
            if not self._is_away(error):
                raise StorageUnavailableError(
                    f"`storage` {self._name} cannot be used: {reason}"
                ) from error
            self.scoped_session.remove()
            raise ServerAwayError(reason) from error

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
            self._patience.note_outage()

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Those that are to be given up, which are told why.

        A worker that was killed before its first sign of life has none to be missed, so it gets
        one here. While the server was away nobody could give any; then all have time to.
        """
        assert self.heartbeat_interval is not None
        for trial_id in self.patiently(lambda: self._without_heartbeat(study_id)):
            self.record_heartbeat(trial_id)
        stale = self.patiently(lambda: RDBStorage._get_stale_trial_ids(self, study_id))
        if self._patience.was_away_within(2 * self.heartbeat_interval):
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
