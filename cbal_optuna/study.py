"""Studies of an objective in a storage: made, resumed and run to a number of trials."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import json
from typing import Any

import numpy as np
import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler
from optuna.samplers import CmaEsSampler
from optuna.samplers import GPSampler
from optuna.samplers import RandomSampler
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.study import MaxTrialsCallback
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from tqdm import tqdm

from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.sampler import CoordinateDescentSampler
from cbal_optuna.summary import USUAL


USABLE = (TrialState.COMPLETE, TrialState.PRUNED)
_MAX_FAILURES_IN_A_ROW = 3
# User attributes that say what a study evaluates and how it has been searched.
OBJECTIVE = "objective"
SAMPLER, SEARCH_SEED = "sampler", "search_seed"


class FailingTrialsError(RuntimeError):
    """Several trials failed one after the other."""


SAMPLERS: dict[str, Callable[[SearchSpace, int], BaseSampler]] = {
    "cd": lambda space, seed: CoordinateDescentSampler(
        x0=space.searched(space.start), order=list(space.distributions), seed=seed
    ),
    "tpe": lambda space, seed: TPESampler(seed=seed),
    "random": lambda space, seed: RandomSampler(seed=seed),
    "gp": lambda space, seed: GPSampler(seed=seed),
    "cma": lambda space, seed: CmaEsSampler(seed=seed),
}


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
    name: str, storage: BaseStorage, objective: Objective[Outcome], sampler: str, seed: int
) -> Study:
    """Make a study or resume it. Its first trials are the usual setting and the start of the
    search, for every sampler.

    Args:
        name, storage:
            Of the study.
        objective:
            What its trials evaluate.
        sampler:
            A key of :data:`SAMPLERS`.
        seed:
            Of the sampler.

    Raises:
        ValueError: There is a study of this name that has another direction or objective.
    """
    study = load_or_create(name, storage, objective)
    trials = study.get_trials(deepcopy=False)
    if not trials:
        study.set_user_attr(SAMPLER, sampler)
        study.set_user_attr(SEARCH_SEED, seed)
    # Coordinate descent goes by the trials; others would draw the numbers of the first run again.
    seed = seed if sampler == "cd" or not trials else _resumed_seed(seed, len(trials))
    space = objective.space
    study.sampler = SAMPLERS[sampler](space, seed)
    known = [_params(t) for t in trials if t.state != TrialState.FAIL]
    for setting in (space.searched(space.usual), space.searched(space.start)):
        if setting not in known:
            study.enqueue_trial(setting)
            known.append(setting)
    return study


def run_usual(
    study: Study, objective: Objective[Outcome], between: Callable[[], None] = lambda: None
) -> None:
    """Evaluate the usual setting if no trial has done so: the one that began to was killed."""
    usable = study.get_trials(deepcopy=False, states=USABLE)
    usual = objective.space.searched(objective.space.usual)
    if all(trial.params != usual for trial in usable):
        study.enqueue_trial(usual)
        run_trials(study, objective, len(usable) + 1, between=between)


def run_trials(
    study: Study,
    objective: Callable[[optuna.Trial], float],
    n_trials: int,
    timeout: float | None = None,
    between: Callable[[], None] = lambda: None,
    callbacks: Sequence[Callable[[Study, FrozenTrial], None]] = (),
) -> None:
    """Run trials until the study has ``n_trials`` usable ones, with a progress bar.

    A trial that fails is recorded and does not count.

    Args:
        study, objective:
            As for Optuna's ``optimize``.
        n_trials:
            Completed and pruned trials of the study, those of earlier runs included.
        timeout:
            Seconds after which no further trial is begun.
        between:
            Called after each trial; what it raises ends the run.
        callbacks:
            As for Optuna's ``optimize``.

    Raises:
        FailingTrialsError: Three trials in a row failed.
    """
    n_done = len(study.get_trials(deepcopy=False, states=USABLE))
    if n_done >= n_trials:
        return
    with tqdm(total=n_trials, initial=n_done, desc=study.study_name, unit="trial") as bar:
        progress = _Progress(bar)
        study.optimize(
            objective,
            timeout=timeout,
            catch=(Exception,),
            callbacks=[
                progress,
                lambda study, trial: between(),
                MaxTrialsCallback(n_trials, states=USABLE),
                *callbacks,
            ],
        )
    if progress.n_failures >= _MAX_FAILURES_IN_A_ROW:
        raise FailingTrialsError(
            f"{progress.n_failures} trials in a row failed, the last with {progress.failure}"
        )


class _Progress:
    """Shows each trial on a bar, and stops a study whose trials fail one after the other."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar
        self.n_failures = 0
        self.failure = ""

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        usable = study.get_trials(deepcopy=False, states=USABLE)
        self._bar.n = min(len(usable), self._bar.total)
        best = max((t.value for t in usable if t.value is not None), default=float("nan"))
        self._bar.set_postfix(best=f"{best:.4f}", refresh=False)
        self._bar.refresh()
        if trial.state != TrialState.FAIL:
            self.n_failures = 0
            return
        self.n_failures += 1
        self.failure = trial.user_attrs.get("failure", "no value")
        self._bar.write(f"trial {trial.number} failed: {self.failure}")
        if self.n_failures >= _MAX_FAILURES_IN_A_ROW:
            study.stop()


def _params(trial: FrozenTrial) -> dict[str, Any]:
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _identity(objective: Objective[Outcome], fresh_seeds: str) -> dict[str, Any]:
    """What a study evaluates, as it comes back from a storage."""
    identity = dict(objective.description)
    if fresh_seeds:
        identity["fresh_seeds"] = fresh_seeds
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _resumed_seed(seed: int, n_trials: int) -> int:
    return int(np.random.SeedSequence([seed, n_trials]).generate_state(1)[0])
