"""Settings trained again with fresh seeds, so that a gain is told from luck.

The best of many noisy trials looks better than it is. So the usual and the best setting are
trained again, with seeds that no trial has used, and their difference is given with its interval.
Each training is stored as a trial of a study of its own beside the searched one, as soon as it is
done: an interrupted comparison goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from typing import Literal

import numpy as np
from optuna.storages import BaseStorage
from optuna.study import load_study
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from tqdm import tqdm

from cbal_optuna.artifacts import artifact_directory
from cbal_optuna.interval import Interval
from cbal_optuna.objectives import attributes_of
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import Setting
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.stored_pictures import keep_pictures
from cbal_optuna.stored_pictures import StoredPictures
from cbal_optuna.study import load_or_create
from cbal_optuna.summary import summarize
from cbal_optuna.summary import USUAL
from cbal_optuna.workers import train_with
from cbal_optuna.workers import WorkerPool


# Added to the objective's seed; trials use that seed and, with repeats, the few that follow.
_FIRST_SEED = {VALIDATION: 1_000, TEST: 2_000}
_MEASURES, _HELD_OUT = "measures", "held_out"


@dataclass(frozen=True)
class SettingComparison:
    """Usual and best setting, trained with the same seeds.

    Attributes:
        part:
            What they were evaluated on: ``"validation"`` or ``"test"``.
        seeds:
            Of the trainings.
        usual, best:
            By metric, one value per seed; the first metric is what was searched.
        held_out:
            What that part consists of: ``"classes"`` or ``"images"``.
        pictures:
            Of what the first training with each has made of that part, if there are any.
        collapsed:
            How many trainings with the usual and with the best setting had embeddings that have
            collapsed.
    """

    part: str
    seeds: tuple[int, ...]
    usual: Mapping[str, np.ndarray]
    best: Mapping[str, np.ndarray]
    held_out: str = "classes"
    pictures: StoredPictures | None = None
    collapsed: tuple[int, int] = (0, 0)

    @property
    def evaluated_on(self) -> str:
        """In words."""
        return f"{self.part} {self.held_out}"

    @property
    def metric(self) -> str:
        """What was searched."""
        return next(iter(self.usual))

    def mean(self, setting: Literal["usual", "best"], metric: str) -> Interval:
        """Of one of the two settings."""
        return Interval.of(getattr(self, setting)[metric])

    def difference(self, metric: str) -> Interval:
        """Best less usual, paired by seed."""
        return Interval.of(self.best[metric] - self.usual[metric])


def compare_settings(
    objective: Objective[Outcome],
    storage: BaseStorage,
    study_name: str,
    usual: Setting,
    best: Setting,
    *,
    part: str,
    n_seeds: int,
    workers: WorkerPool | None = None,
    between: Callable[[], None] = lambda: None,
) -> SettingComparison:
    """Train the usual and the best setting again, with seeds that no trial of the study has used.

    Args:
        objective:
            The study's.
        storage, study_name:
            Where the study is; the trainings go to the study ``"<study_name>.<part>"`` of the
            same storage.
        usual, best:
            The searched parts of the settings.
        part:
            ``"validation"``: trained on the training part of each fold, as in the study;
            ``"test"``: trained on training and validation part.
        n_seeds:
            Trainings of each setting.
        workers:
            That train, if not this process.
        between:
            Called twice a second while they do; what it raises ends the comparison.

    Raises:
        FailingTrialsError: A training of a worker failed.
        NoWorkerError: All workers died, again and again, or their cluster is lost.
        InfeasibleSettingError: One of the settings cannot be trained.
        ValueError: A study of that name is another one.
    """
    name = _comparison_name(study_name, part)
    study = load_or_create(name, storage, objective, fresh_seeds=part)
    study.set_user_attr(_MEASURES, list(objective.measures(part)))
    study.set_user_attr(_HELD_OUT, objective.held_out)
    seeds = fresh_seeds(objective, part, n_seeds)
    runs = [(setting, seed) for seed in seeds for setting in (usual, best)]
    title = f"{part} {objective.held_out}, fresh seeds"
    if workers is None:
        for setting, seed in tqdm(runs, title):
            if seed not in _trainings(study, setting):
                _train(objective, study, setting, part, seed)
    else:
        retrained = partial(_retrained, part)
        train_with(workers, study, objective.space, runs, retrained, title, between)
    return _compared(study, part, seeds, usual, best)


def fresh_seeds(objective: Objective[Outcome], part: str, n_seeds: int) -> tuple[int, ...]:
    """Those with which settings are trained again for a part, in their order."""
    return tuple(objective.seed + _FIRST_SEED[part] + i for i in range(n_seeds))


def stored_comparisons(
    storage: BaseStorage, study_name: str, usual: Setting, best: Setting
) -> list[SettingComparison]:
    """The comparisons of the two settings that are in the storage, by the seeds with which both
    have been trained.

    Args:
        storage, study_name, usual, best:
            As for :func:`compare_settings`.
    """
    comparisons = []
    for part in _FIRST_SEED:
        try:
            study = load_study(study_name=_comparison_name(study_name, part), storage=storage)
        except KeyError:
            continue
        if not _says_what_is_compared(study):
            continue
        seeds = sorted(_trainings(study, usual).keys() & _trainings(study, best).keys())
        if seeds and (part == TEST or usual != best):
            comparisons.append(_compared(study, part, tuple(seeds), usual, best))
    return comparisons


def comparisons_of(study: Study) -> list[SettingComparison]:
    """Those of a study's usual and its recommended setting, as far as they are stored."""
    usual = study.user_attrs.get(USUAL)
    try:
        best = summarize(study).recommended.params
    except ValueError:
        return []
    if usual is None:
        return []
    return stored_comparisons(study._storage, study.study_name, usual, best)


def is_comparison(study_name: str) -> bool:
    """Whether a study of this name holds the trainings of :func:`compare_settings`."""
    return study_name.rpartition(".")[2] in _FIRST_SEED


def _comparison_name(study_name: str, part: str) -> str:
    return f"{study_name}.{part}"


def _says_what_is_compared(study: Study) -> bool:
    """Studies of something else may have such a name."""
    measures, held_out = map(study.user_attrs.get, (_MEASURES, _HELD_OUT))
    if not isinstance(measures, list) or not measures:
        return False
    return all(isinstance(name, str) for name in (*measures, held_out))


def _compared(
    study: Study, part: str, seeds: tuple[int, ...], usual: Setting, best: Setting
) -> SettingComparison:
    attributes = study.user_attrs

    def rows(setting: Setting) -> list[dict[str, Any]]:
        trainings = _trainings(study, setting)
        return [trainings[seed].user_attrs for seed in seeds]

    def values(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        return {m: np.array([row[m] for row in rows]) for m in attributes[_MEASURES]}

    def collapsed(rows: list[dict[str, Any]]) -> int:
        return sum("collapsed" in row for row in rows)

    of_usual, of_best = rows(usual), rows(best)
    return SettingComparison(
        part,
        seeds,
        values(of_usual),
        values(of_best),
        attributes[_HELD_OUT],
        _stored_pictures(study, seeds, usual, best),
        (collapsed(of_usual), collapsed(of_best)),
    )


def _stored_pictures(
    study: Study, seeds: tuple[int, ...], usual: Setting, best: Setting
) -> StoredPictures | None:
    """Those with the first seed that has them for both settings."""
    directory = artifact_directory(study._storage)
    of_usual, of_best = (_trainings(study, setting) for setting in (usual, best))
    found = (StoredPictures.of(directory, of_usual[seed], of_best[seed]) for seed in seeds)
    return next((pictures for pictures in found if pictures is not None), None)


def _trainings(study: Study, setting: Setting) -> dict[int, FrozenTrial]:
    """With this setting, by seed: trials that say it, and all that is compared."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    measures = study.user_attrs[_MEASURES]
    return {
        t.user_attrs["seed"]: t
        for t in trials
        if t.params == setting
        and isinstance(t.user_attrs.get("seed"), int)
        and all(isinstance(t.user_attrs.get(m), (int, float)) for m in measures)
    }


def _train(
    objective: Objective[Outcome], study: Study, setting: Setting, part: str, seed: int
) -> None:
    """Once, and store what comes of it."""
    completed = objective.space.completed(setting)
    directory = _directory_of_pictures(objective, study, part, seed)
    with objective.outcomes(
        completed, part, [seed], final=part == TEST, pictured=directory is not None
    ) as outcomes:
        attributes = attributes_of(outcomes)
        study.add_trial(
            create_trial(
                params=setting,
                distributions=objective.space.distributions,
                value=attributes[objective.measures(part)[0]],
                user_attrs={**attributes, "seed": seed},
                system_attrs=keep_pictures(directory, outcomes[0].pictures),
            )
        )


def _retrained(part: str, objective: Objective[Outcome], trial: Trial) -> float:
    """What a worker does with a trial of the comparison."""
    setting, seed = objective.space.suggest(trial), trial.user_attrs["seed"]
    directory = _directory_of_pictures(objective, trial.study, part, seed)
    with objective.outcomes(
        setting, part, [seed], final=part == TEST, pictured=directory is not None
    ) as outcomes:
        attributes = attributes_of(outcomes)
        for name, attribute in attributes.items():
            trial.set_user_attr(name, attribute)
        for name, text in keep_pictures(directory, outcomes[0].pictures).items():
            trial.study._storage.set_trial_system_attr(trial._trial_id, name, text)
    value: float = attributes[objective.measures(part)[0]]
    return value


def _directory_of_pictures(
    objective: Objective[Outcome], study: Study, part: str, seed: int
) -> Path | None:
    """Where those of a training go; only the first of a setting has any."""
    (first,) = fresh_seeds(objective, part, 1)
    return artifact_directory(study._storage) if seed == first else None
