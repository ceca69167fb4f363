"""Settings trained again with fresh seeds, so that a gain is told from luck.

The best of many noisy trials looks better than it is. So the usual and the best setting are
trained again, with seeds that no trial has used, and their difference is given with its interval.
Each training is stored as a trial of a study of its own beside the searched one, as soon as it is
done: an interrupted comparison goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import Literal

import numpy as np
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import create_trial
from scipy.stats import t as student_t
from tqdm import tqdm

from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import Setting
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.study import load_or_create


CONFIDENCE = 0.95
# Added to the objective's seed; trials use that seed and, with repeats, the few that follow.
_FIRST_SEED = {VALIDATION: 1_000, TEST: 2_000}


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval by Student's t distribution."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: np.ndarray) -> Interval:
        if len(values) < 2:
            return cls(float(values.mean()), math.inf)
        error = values.std(ddof=1) / math.sqrt(len(values))
        quantile = student_t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)
        return cls(float(values.mean()), float(quantile * error))

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.half_width:.4f}"

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half_width


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
    """

    part: str
    seeds: tuple[int, ...]
    usual: Mapping[str, np.ndarray]
    best: Mapping[str, np.ndarray]
    held_out: str = "classes"

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

    Raises:
        InfeasibleSettingError: One of the settings cannot be trained.
        ValueError: A study of that name is another one.
    """
    study = load_or_create(f"{study_name}.{part}", storage, objective, fresh_seeds=part)
    seeds = tuple(objective.seed + _FIRST_SEED[part] + i for i in range(n_seeds))
    runs = [(setting, seed) for seed in seeds for setting in (usual, best)]
    progress = tqdm(runs, f"{part} {objective.held_out}, fresh seeds")
    rows = [_trained(objective, study, setting, part, seed) for setting, seed in progress]
    values = {m: np.array([row[m] for row in rows]) for m in objective.measures(part)}
    return SettingComparison(
        part,
        seeds,
        usual={m: v[0::2] for m, v in values.items()},
        best={m: v[1::2] for m, v in values.items()},
        held_out=objective.held_out,
    )


def _trained(
    objective: Objective[Outcome], study: Study, setting: Setting, part: str, seed: int
) -> dict[str, float]:
    """The metrics of one training, from the study if it is there already."""
    for trial in study.get_trials(deepcopy=False):
        if trial.params == setting and trial.user_attrs["seed"] == seed:
            return trial.user_attrs
    outcomes = [
        objective.run(
            objective.space.completed(setting),
            train_part,
            evaluation_part,
            seed=seed,
            final=part == TEST,
        ).attributes()
        for train_part, evaluation_part in objective.divisions(part)
    ]
    attributes = {m: float(np.mean([o[m] for o in outcomes])) for m in outcomes[0]}
    study.add_trial(
        create_trial(
            params=setting,
            distributions=objective.space.distributions,
            value=attributes[objective.measures(part)[0]],
            user_attrs={**attributes, "seed": seed},
        )
    )
    return attributes
