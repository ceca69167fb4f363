"""Ending a study when further trials are expected to gain next to nothing."""

from __future__ import annotations

from optuna import logging
from optuna.study import Study
from optuna.trial import FrozenTrial

from cbal_optuna.summary import summarize


_logger = logging.get_logger(__name__)


class StopWhenConverged:
    """A callback of :meth:`optuna.study.Study.optimize` that stops the study when
    :func:`~cbal_optuna.summarize` says that it has converged, whichever sampler it has.

    Example:
        .. code-block:: python

            study.optimize(objective, n_trials=60, callbacks=[StopWhenConverged()])

    Args:
        patience:
            After how many finished trials in a row that say so. One alone may be mistaken, as the
            model is of noisy trials.

    Raises:
        ValueError: ``patience`` is not positive.
    """

    def __init__(self, patience: int = 3) -> None:
        if patience < 1:
            raise ValueError(f"`patience` is {patience}; it should be at least 1.")
        self._patience = patience
        self._in_a_row = 0

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        if self.is_time(study):
            study.stop()

    def is_time(self, study: Study) -> bool:
        """Whether to stop; to be asked once after each finished trial."""
        try:
            summary = summarize(study)
        except ValueError:
            # No trial has a feasible value yet.
            return False
        self._in_a_row = self._in_a_row + 1 if summary.converged else 0
        if self._in_a_row < self._patience:
            return False
        _logger.info(f"The search has converged. {summary.reason}")
        return True
