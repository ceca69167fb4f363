"""What all objectives have in common: a trial trains a model with its setting and evaluates it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
import warnings

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import BaseTrial
from optuna.trial import TrialState
import timm
import torch

from cbal_optuna.data import LabelledImages
from cbal_optuna.feasibility import record_feasibility
from cbal_optuna.objectives.checks import check_whole
from cbal_optuna.objectives.infeasible import InfeasibleSettingError
from cbal_optuna.objectives.outcome import attributes_of
from cbal_optuna.objectives.outcome import mean_curve
from cbal_optuna.objectives.outcome import Outcome
from cbal_optuna.objectives.racing import expected_mean
from cbal_optuna.objectives.racing import is_lost
from cbal_optuna.objectives.trainings import OutcomeT
from cbal_optuna.objectives.trainings import Trainings
from cbal_optuna.objectives.trainings import VALIDATION
from cbal_optuna.stored_trials import FAILURE
from cbal_optuna.stored_trials import INTERRUPTED
from cbal_optuna.study_history import TRAININGS
from cbal_optuna.study_history import VALUES
from cbal_optuna.version import __version__


#: The user attribute of the terms of the loss in the course of the training: up to 50 numbers for
#: each.
CURVE = "curve"


class Objective(Trainings[OutcomeT]):
    """Trains a model with the setting of a trial and returns how good it is, to be maximised.

    The value is that of the *last* evaluation, not of the best one: the learning rate has fallen
    to zero by then, so it is what the training arrives at, while the best of several noisy
    evaluations is too high, and the more so the more often one looks. With repeats or folds it is
    the mean over them; all trials use the same seeds. With ``prune``, a trial that after some of
    its trainings is clearly worse than the best one is spared the others: its value is what it
    would have come to, and the user attribute ``trainings`` says how many it had.

    Run trials in parallel in processes: threads (Optuna's ``n_jobs``) share torch's random state,
    and with them no value is reproducible.

    Each evaluation is reported to the pruner. A training that diverges, comes to NaN, runs out of
    memory or cannot fill its batches makes the trial infeasible: its value is 0, the least that it
    can be, the constraint ``"trainable"`` is violated, and the user attribute ``infeasible`` says
    which of these it was. Embeddings that have collapsed are not infeasible: the trial has the
    value that they have, and the user attribute ``collapsed``. Before it gives up for lack of
    memory, batches go through the model in micro-batches, unless ``training`` says otherwise; the
    user attribute ``micro_batch`` says how many images did so at once.

    A trial that is cut off by a signal, or with its process or machine, goes on from its last
    checkpoint when its setting is evaluated again: by a retry of the trial, by the same command,
    in any study of this objective. A result removes the checkpoint. So does an error that comes
    again before the next one; the first time it may be the machine's.

    A trial need not be in a study: ``objective(optuna.trial.FixedTrial({"balance": 4.0, ...}))``
    evaluates a setting by itself.

    Subclasses say what is trained on what, and how it is evaluated.
    """

    def __init__(
        self, dataset: LabelledImages, *, repeats: int, prune: bool, **arguments: Any
    ) -> None:
        check_whole(1, repeats=repeats)
        self.repeats = repeats
        self._prune = prune
        super().__init__(dataset, **arguments)

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "repeats": self.repeats}

    def __call__(self, trial: BaseTrial) -> float:
        study = _study_of(trial)
        if study is not None and len(study.directions) > 1:
            raise ValueError(
                f"`directions` of the study are {len(study.directions)}, but an objective has one "
                "value; its `direction` should be 'maximize'."
            )
        if study is not None and study.direction != StudyDirection.MAXIMIZE:
            warnings.warn(
                "the study looks for the lowest value, but that of an objective is the better the "
                "higher it is; its `direction` should be 'maximize'",
                stacklevel=2,
            )
        setting = self.space.suggest(trial)
        trial.set_user_attr("seed", self.seed)
        trial.set_user_attr("versions", versions())
        seeds = [self.seed + repeat for repeat in range(self.repeats)]

        def report(training: int, evaluation: int, value: float) -> None:
            trial.report(value, training * self.training.n_evaluations + evaluation)
            if trial.should_prune():
                raise optuna.TrialPruned

        completed = self._completed(trial)

        def is_enough(values: Sequence[float]) -> bool:
            return self._prune and bool(values) and is_lost(values, completed)

        try:
            with self.outcomes(
                setting, VALIDATION, seeds, on_evaluation=report, is_enough=is_enough
            ) as outcomes:
                return self._recorded(trial, outcomes)
        except InfeasibleSettingError as error:
            trial.set_user_attr("infeasible", str(error))
            record_feasibility(trial, "trainable", feasible=False)
            return 0.0
        except KeyboardInterrupt as error:
            # Unless the trial was given up by others.
            with suppress(UpdateFinishedTrialError):
                trial.set_user_attr(INTERRUPTED, f"{type(error).__name__}: {error}")
            raise
        except (optuna.TrialPruned, UpdateFinishedTrialError):
            raise
        except Exception as error:
            trial.set_user_attr(FAILURE, f"{type(error).__name__}: {error}")
            raise

    def _recorded(self, trial: BaseTrial, outcomes: Sequence[Outcome]) -> float:
        """The value of a trial, after the trial was told what else there is to say."""
        for name, attribute in attributes_of(outcomes).items():
            trial.set_user_attr(name, attribute)
        trial.set_user_attr(CURVE, mean_curve(outcomes))
        values = [outcome.value for outcome in outcomes]
        trial.set_user_attr(VALUES, values)
        record_feasibility(trial, "trainable", feasible=True)
        if len(values) == self._n_trainings:
            return float(np.mean(values))
        trial.set_user_attr(TRAININGS, len(values))
        return expected_mean(values, self._completed(trial))

    @property
    def _n_trainings(self) -> int:
        """Of a trial."""
        return len(self.splits) * self.repeats

    def _completed(self, trial: BaseTrial) -> np.ndarray:
        """The values of the trials that have had all trainings, of shape (trials, trainings)."""
        values: list[Sequence[float]] = []
        if (study := _study_of(trial)) is not None:
            others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            values = [other.user_attrs.get(VALUES, ()) for other in others]
        complete = [v for v in values if len(v) == self._n_trainings]
        return np.array(complete, dtype=float).reshape(-1, self._n_trainings)


def _study_of(trial: BaseTrial) -> Study | None:
    """None of a trial that stands for itself, as Optuna's FixedTrial."""
    return getattr(trial, "study", None)


def versions() -> dict[str, str]:
    """Of what a training depends on, by package."""
    modules = {m.__name__: m.__version__ for m in (optuna, timm, torch)}
    return {"cbal_optuna": __version__, **modules}
