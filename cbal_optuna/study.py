"""Studies of an objective in a storage: made, resumed and run to a number of trials."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress
import json
import math
import time
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from tqdm import tqdm

from cbal_optuna.named_samplers import named_sampler
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.plain_text import printable
from cbal_optuna.stored_trials import ask
from cbal_optuna.stored_trials import evaluate
from cbal_optuna.stored_trials import FAILURE
from cbal_optuna.stored_trials import INTERRUPTED
from cbal_optuna.stored_trials import retry_stale_trials
from cbal_optuna.stored_trials import training_of
from cbal_optuna.stored_trials import was_given_up
from cbal_optuna.summary import USUAL
from cbal_optuna.warm_start import FRESH_SEEDS
from cbal_optuna.warm_start import OBJECTIVE
from cbal_optuna.warm_start import record_start
from cbal_optuna.warm_start import warm_start


USABLE = (TrialState.COMPLETE, TrialState.PRUNED)
MAX_FAILURES_IN_A_ROW = 3
# User attributes that say how a study has been searched.
SAMPLER, SEARCH_SEED = "sampler", "search_seed"


class FailingTrialsError(RuntimeError):
    """Several trials failed one after the other."""


def check_study(study: Study, objective: Objective[Outcome], fresh_seeds: str = "") -> None:
    """See that a study's trials can be compared with those to come.

    Args:
        study:
            The study.
        objective:
            What its trials are to evaluate.
        fresh_seeds:
            What settings are compared on, if the study keeps such a comparison.

    Raises:
        ValueError: Its direction or its objective is another one.
    """
    if study.directions != [StudyDirection.MAXIMIZE]:
        raise ValueError(
            f"`study_name` {study.study_name!r} is a study whose direction is not 'maximize'; use "
            "another name."
        )
    stored = study.user_attrs.get(OBJECTIVE, {})
    if not study.trials and not stored:
        return
    wanted = _identity(objective, fresh_seeds)
    if not isinstance(stored, dict) or not stored:
        raise ValueError(
            f"`study_name` {study.study_name!r} is a study of another objective; use another name."
        )
    for key in sorted(wanted.keys() | stored.keys()):
        if stored.get(key) != wanted.get(key):
            raise ValueError(
                f"`study_name` {study.study_name!r} is a study with {key} {stored.get(key)!r}, "
                f"not {wanted.get(key)!r}; use another name, or the same options as before."
            )


def load_or_create(
    name: str, storage: BaseStorage, objective: Objective[Outcome], fresh_seeds: str = ""
) -> Study:
    """A study that says what its trials evaluate; arguments and errors as in `check_study`."""
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        # Coordinate descent needs the values of trials that a pruner would end.
        pruner=NopPruner(),
        load_if_exists=True,
    )
    check_study(study, objective, fresh_seeds)
    if OBJECTIVE not in study.user_attrs:
        study.set_user_attr(OBJECTIVE, _identity(objective, fresh_seeds))
        study.set_user_attr(USUAL, objective.space.searched(objective.space.usual))
    return study


def open_study(
    name: str,
    storage: BaseStorage,
    objective: Objective[Outcome],
    sampler: str,
    seed: int,
    *,
    start_from: str | None = None,
    sampler_options: Mapping[str, Any] = MappingProxyType({}),
) -> Study:
    """Make a study or resume it. Its first trials are the usual setting and the start of the
    search, for every sampler; what an interruption has ended is evaluated again, from its
    checkpoint on.

    Args:
        name, storage:
            Of the study.
        objective:
            What its trials evaluate.
        sampler, sampler_options:
            As for :func:`~cbal_optuna.named_samplers.named_sampler`.
        seed:
            Of the sampler.
        start_from:
            The study of this storage whose recommended setting is the start; by default the start
            of the objective's space, or where the study has begun from.

    Raises:
        ValueError: There is a study of this name that has another direction, objective or start,
            or ``start_from`` has no setting for this objective.
    """
    space = objective.space
    warm = warm_start(name, storage, space, start_from)
    study = load_or_create(name, storage, objective)
    if warm is not None:
        record_start(study, warm)
    usual = space.searched(space.usual)
    start = space.searched(space.start) if warm is None else warm.setting
    trials = study.get_trials(deepcopy=False)
    if not trials:
        study.set_user_attr(SAMPLER, sampler)
        study.set_user_attr(SEARCH_SEED, seed)
    # Coordinate descent goes by the trials; others would draw the numbers of the first run again.
    seed = seed if sampler == "cd" or not trials else _resumed_seed(seed, len(trials))
    study.sampler = named_sampler(sampler, start, seed, sampler_options)
    known = [training_of(t)[0] for t in trials if t.state != TrialState.FAIL]
    interrupted = [t.params for t in trials if INTERRUPTED in t.user_attrs]
    for setting in (usual, start, *interrupted):
        if setting not in known:
            study.enqueue_trial(setting)
            known.append(setting)
    _withdraw_repetitions(study)
    return study


def run_usual(study: Study, objective: Objective[Outcome], run: Callable[[int], None]) -> None:
    """Evaluate the usual setting if no trial has done so: the one that began to was killed.

    Args:
        study, objective:
            The study and what it evaluates.
        run:
            Runs trials until the study has so many usable ones.
    """
    usable = study.get_trials(deepcopy=False, states=USABLE)
    waiting = study.get_trials(deepcopy=False, states=[TrialState.WAITING])
    usual = objective.space.searched(objective.space.usual)
    if any(trial.params == usual for trial in usable):
        return
    queue = [training_of(trial)[0] for trial in waiting]
    if usual not in queue:
        study.enqueue_trial(usual)
        queue.append(usual)
    # What was queued before it comes first.
    run(len(usable) + queue.index(usual) + 1)


def run_trials(
    study: Study,
    objective: Callable[[Trial], float],
    n_trials: int,
    timeout: float | None = None,
    between: Callable[[], None] = lambda: None,
    stop: Callable[[Study], bool] = lambda study: False,
) -> None:
    """Run trials until the study has ``n_trials`` usable ones, with a progress bar.

    A trial that fails is recorded and does not count.

    Args:
        study:
            The study.
        objective:
            From a trial to its value.
        n_trials:
            Completed and pruned trials of the study, those of earlier runs included.
        timeout:
            Seconds after which no further trial is begun.
        between:
            Called after each trial; what it raises ends the run.
        stop:
            Called after each trial; whether to begin no more.

    Raises:
        FailingTrialsError: Three trials in a row failed.
    """
    retry_stale_trials(study)
    n_done = len(study.get_trials(deepcopy=False, states=USABLE))
    if n_done >= n_trials:
        return
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    with tqdm(total=n_trials, initial=n_done, desc=study.study_name, unit="trial") as bar:
        progress = Progress(bar)
        while time.monotonic() < deadline:
            trial = ask(study)
            with get_heartbeat_thread(trial._trial_id, study._storage):
                evaluate(study, trial, objective)
            retry_stale_trials(study)
            n_done = progress.show(study)
            progress.count(study._storage.get_trial(trial._trial_id))
            progress.check()
            between()
            if n_done >= n_trials or stop(study):
                return


class Progress:
    """Shows the trials of a study on a bar, and counts how many failed one after the other."""

    def __init__(self, bar: tqdm, max_failures: int = MAX_FAILURES_IN_A_ROW) -> None:
        self._bar = bar
        self._max_failures = max_failures
        self._n_failures = 0
        self._failure = ""

    def show(self, study: Study) -> int:
        """How many usable ones there are."""
        usable = study.get_trials(deepcopy=False, states=USABLE)
        self._bar.n = min(len(usable), self._bar.total)
        best = max((t.value for t in usable if t.value is not None), default=float("nan"))
        self._bar.set_postfix(best=f"{best:.4f}", refresh=False)
        self._bar.refresh()
        return len(usable)

    def count(self, trial: FrozenTrial) -> None:
        """One that has ended; that others have taken over says nothing of its setting."""
        if was_given_up(trial):
            self._bar.write(
                f"trial {trial.number} was given up by others: {trial.user_attrs[FAILURE]}"
            )
            return
        if trial.state != TrialState.FAIL:
            self._n_failures = 0
            return
        self._n_failures += 1
        self._failure = trial.user_attrs.get(FAILURE, "no value")
        self._bar.write(f"trial {trial.number} failed: {printable(self._failure)}")

    def check(self) -> None:
        """Raises FailingTrialsError if too many failed."""
        if self._n_failures >= self._max_failures:
            raise FailingTrialsError(
                f"{self._n_failures} trials in a row failed, the last with {self._failure}"
            )


def _withdraw_repetitions(study: Study) -> None:
    """Of what another machine, which opens the study at this moment, has queued as well."""
    seen: list[dict[str, Any]] = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)):
        params, _ = training_of(trial)
        if trial.state == TrialState.WAITING and params in seen:
            # That machine may do so at this moment, too.
            with suppress(UpdateFinishedTrialError):
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        elif params:
            seen.append(params)


def _identity(objective: Objective[Outcome], fresh_seeds: str) -> dict[str, Any]:
    """What a study evaluates, as it comes back from a storage."""
    identity = dict(objective.description)
    if fresh_seeds:
        identity[FRESH_SEEDS] = fresh_seeds
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _resumed_seed(seed: int, n_trials: int) -> int:
    return int(np.random.SeedSequence([seed, n_trials]).generate_state(1)[0])
