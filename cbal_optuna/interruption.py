"""Ctrl-C and SIGTERM that cut no database transaction in two.

An exception that a signal raises in the middle of a transaction can leave its locks behind, and
the process then waits for itself. So once trials run, a signal is noted, and the exception raised
where it does no harm: before a training step, and between trials.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import signal
import threading


class Interrupted(KeyboardInterrupt):
    """A signal asked to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruption:
    """Takes SIGINT, unless the process was started to ignore it, and SIGTERM.

    They raise :class:`Interrupted` at once; after :meth:`defer`, in :meth:`check` alone, but for a
    second one, which raises at once again.
    """

    def __init__(self) -> None:
        self._deferred = False
        self._noted: int | None = None
        self._taken = [
            number
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) != signal.SIG_IGN
        ]
        for number in self._taken:
            signal.signal(number, self._receive)

    def defer(self) -> None:
        self._deferred = True

    def ignore(self) -> None:
        """What comes while the process is ending by itself."""
        for number in self._taken:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        if self._noted is not None:
            raise Interrupted(self._noted)

    def _receive(self, number: int, frame: object) -> None:
        if not self._deferred or self._noted is not None:
            raise Interrupted(number)
        self._noted = number


@contextmanager
def silent_end() -> Iterator[None]:
    """Has Ctrl-C end the process at once and without a traceback, as SIGTERM does anyway, while a
    program loads its modules. An exception could be taken for a module that is broken."""
    is_python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_python or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
