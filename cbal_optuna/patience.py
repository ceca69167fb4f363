"""Servers that may be stopped and started again while they are in use: what is asked of one that
is away is asked again until it answers."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import TypeVar
import warnings

from optuna.exceptions import StorageInternalError


# How long a server may be away.
PATIENCE_SECONDS = 300.0
_PAUSE_SECONDS = 1.0

Result = TypeVar("Result")


class StorageUnavailableError(StorageInternalError):
    """A storage cannot be used, and waiting has not helped or would not help."""


class ServerAwayError(StorageInternalError):
    """A server does not answer at this moment; says why."""


class Patience:
    """Waits for a server, for five minutes at most; once that was in vain, no longer.

    Args:
        name:
            Of the storage, for people.
        while_waiting:
            Called every second; what it raises ends the waiting.
    """

    def __init__(self, name: str, while_waiting: Callable[[], None]) -> None:
        self._name = name
        self._while_waiting = while_waiting
        self._is_lost = False
        self._last_missed = -float("inf")

    def note_outage(self) -> None:
        """That the server has not answered just now."""
        self._last_missed = time.monotonic()

    def was_away_within(self, seconds: float) -> bool:
        """Whether the server has not answered at some time in the last seconds."""
        return time.monotonic() - self._last_missed < seconds

    def until_it_answers(
        self, operation: Callable[[], Result], again: Callable[[], Result] | None = None
    ) -> Result:
        """Do something that raises ServerAwayError while the server is away.

        Args:
            operation:
                What to do.
            again:
                What to do after the server was away, if not the same: it may have been away
                before it did what it was asked for, or after.

        Raises:
            StorageUnavailableError: The server stays away.
        """
        deadline: float | None = None
        while True:
            try:
                result = operation()
            except ServerAwayError as error:
                self.note_outage()
                if deadline is None:
                    deadline = self._deadline(error)
                if time.monotonic() >= deadline:
                    self._is_lost = True
                    raise StorageUnavailableError(
                        f"`storage` {self._name} has not answered for {PATIENCE_SECONDS:.0f} "
                        f"seconds ({error}); what it holds is kept, and the same command goes on "
                        "with it"
                    ) from error
                self._while_waiting()
                time.sleep(_PAUSE_SECONDS)
                operation = again or operation
            else:
                self._is_lost = False
                return result

    def _deadline(self, error: ServerAwayError) -> float:
        if self._is_lost:
            return -float("inf")
        warnings.warn(
            f"`storage` {self._name} does not answer ({error}); it is waited for, "
            f"{PATIENCE_SECONDS:.0f} seconds at most",
            stacklevel=2,
        )
        return time.monotonic() + PATIENCE_SECONDS
