"""Settings with which no training comes to its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cbal_optuna.training import DivergedError
from cbal_optuna.training import is_out_of_memory
from cbal_optuna.training import NotANumberError


class InfeasibleSettingError(RuntimeError):
    """A setting with which no training comes to its end."""


@contextmanager
def breakdowns_are_infeasible() -> Iterator[None]:
    """Says of a training that diverges, comes to NaN or runs out of memory that its setting is
    infeasible."""
    try:
        yield
    except NotANumberError as error:
        raise InfeasibleSettingError(f"not a number: {error}") from error
    except DivergedError as error:
        raise InfeasibleSettingError(f"diverged: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InfeasibleSettingError(f"out of memory: {error}") from error
