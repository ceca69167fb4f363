"""Trials in storages that several workers share: some die, and some are only taken for dead."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages import fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState

from cbal_optuna.study_history import TRAININGS


#: The user attribute of a failed trial that says why it failed.
FAILURE = "failure"
#: That of a trial that a signal has ended.
INTERRUPTED = "interrupted"
_SILENCE = "no sign of life"
_MAX_RETRIES = 3


def ask(study: Study) -> Trial:
    """Optuna's, for those who see to it that the trial gives signs of life."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        return study.ask()


def evaluate(study: Study, trial: Trial, objective: Callable[[Trial], float]) -> None:
    """As Optuna's ``optimize`` does, but that somebody else may have given the trial up, when this
    process slept for so long that it was taken for dead: what comes of it is dropped then."""
    try:
        _tell(study, trial, value=objective(trial))
    except optuna.TrialPruned:
        _tell(study, trial, state=TrialState.PRUNED)
    except UpdateFinishedTrialError:
        return
    except Exception as error:
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr(FAILURE, f"{type(error).__name__}: {error}")
        _tell(study, trial, state=TrialState.FAIL)
    except KeyboardInterrupt:
        _tell(study, trial, state=TrialState.FAIL)
        raise


def _tell(
    study: Study, trial: Trial, value: float | None = None, state: TrialState | None = None
) -> None:
    with suppress(UpdateFinishedTrialError):
        study.tell(trial, value, state, skip_if_finished=True)


def retry(study: Study, trial: FrozenTrial, reason: str) -> None:
    """Fail the trial of a worker that is known to be dead, and queue it again, a few times."""
    if not trial.state.is_finished():
        study._storage.set_trial_user_attr(trial._trial_id, FAILURE, reason)
        study.tell(trial.number, state=TrialState.FAIL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        for callback in retry_callback().values():
            callback(study, trial)


def retry_stale_trials(study: Study) -> None:
    """Do so with the trials of workers that have given no sign of life for long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)


def note_silence(storage: BaseStorage, trial_ids: Iterable[int], seconds: int | None) -> None:
    """Tell trials that are to be given up why: for so many seconds their workers were silent."""
    for trial_id in trial_ids:
        # Unless they have ended in the meantime.
        with suppress(UpdateFinishedTrialError):
            storage.set_trial_user_attr(trial_id, FAILURE, f"{_SILENCE} for {seconds} seconds")


def was_given_up(trial: FrozenTrial) -> bool:
    """Whether a trial was failed because its worker gave no sign of life, and so is retried."""
    failure = str(trial.user_attrs.get(FAILURE, ""))
    return trial.state == TrialState.FAIL and failure.startswith(_SILENCE)


def training_of(trial: FrozenTrial) -> tuple[dict[str, Any], int | None]:
    """What a trial evaluates, or will: its parameters, and its seed if it has one of its own."""
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    return params, trial.user_attrs.get("seed")


def _is_same_training(one: FrozenTrial, other: FrozenTrial) -> bool:
    """A trial that has not begun may not say its seed yet, which then is that of all others."""
    (params, seed), (other_params, other_seed) = training_of(one), training_of(other)
    return params == other_params and (seed == other_seed or None in (seed, other_seed))


def _with_all_params(study: Study) -> Iterator[FrozenTrial]:
    """The trials that have not failed, but those that may still be asking for parameters."""
    for trial in study.get_trials(deepcopy=False):
        is_told = trial.state.is_finished() or "fixed_params" in trial.system_attrs
        if is_told and trial.state != TrialState.FAIL:
            yield trial


def retry_callback() -> dict[str, Any]:
    """The argument of RDBStorage, by its name in this version of Optuna.

    A trial is not queued again if another one evaluates the same, or has done so.
    """
    current = getattr(optuna.storages, "RetryHeartbeatStaleTrialCallback", None)
    callback = (current or optuna.storages.RetryFailedTrialCallback)(max_retry=_MAX_RETRIES)

    def retried(study: Study, trial: FrozenTrial) -> None:
        if any(_is_same_training(trial, other) for other in _with_all_params(study)):
            return
        # Else the retry would have them as well.
        for how_it_ended in (FAILURE, INTERRUPTED, TRAININGS):
            trial.user_attrs.pop(how_it_ended, None)
        callback(study, trial)

    return {f"{'heartbeat_stale' if current else 'failed'}_trial_callback": retried}
