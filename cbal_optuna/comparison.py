"""Samplers compared: the same search repeated under each of them with several seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
import json
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.study import StudyDirection
import pandas as pd
from scipy.stats import bootstrap

from cbal_optuna.study import SAMPLER
from cbal_optuna.study import SEARCH_SEED
from cbal_optuna.study import USABLE
from cbal_optuna.warm_start import OBJECTIVE


# Of what a search can gain over its first trial, the share that counts as having arrived.
TARGET = 0.95
# Numbers of trials after which searches are compared.
_COUNTS = (10, 20, 30, 40, 60, 80, 100)
_N_RESAMPLES = 10_000


@dataclass(frozen=True)
class SamplerComparison:
    """Searches by sampler and seed.

    Searches of one seed are paired: their trainings have the same seeds too, so that a setting has
    the same value under each sampler.

    Attributes:
        trials:
            A row for each usable trial, by sampler, seed and position: ``sampler``, ``seed``,
            ``trial`` (from 1 on), ``value``, ``best`` (so far), and ``seconds`` (of all trials so
            far, added up).
        maximizes:
            Whether higher values are better.
    """

    trials: pd.DataFrame
    maximizes: bool

    @classmethod
    def of(cls, studies: Iterable[Study]) -> SamplerComparison:
        """Of studies that say what their sampler and seed are; other studies are samplers of their
        own, by name.

        Raises:
            ValueError: The studies differ in direction, have several objectives, or there is no
                usable trial.
        """
        studies = list(studies)
        directions = {tuple(study.directions) for study in studies}
        if len(directions) != 1 or len(studies[0].directions) != 1:
            raise ValueError(
                "`studies` must have a single objective and the same direction, got "
                f"{sorted(str([d.name for d in own]) for own in directions)}."
            )
        maximizes = studies[0].direction == StudyDirection.MAXIMIZE
        rows = [row for study in studies for row in _rows(study, maximizes)]
        if not rows:
            raise ValueError("`studies` have no usable trial yet.")
        trials = pd.DataFrame(rows)
        twice = trials[trials.duplicated(["sampler", "seed", "trial"])]
        if len(twice):
            sampler, seed = twice.iloc[0][["sampler", "seed"]]
            raise ValueError(
                f"`studies` are to differ in sampler or seed; two have {sampler!r} and {seed}."
            )
        return cls(trials, maximizes)

    @property
    def samplers(self) -> list[str]:
        """In the order of the studies; the others are compared with the first."""
        return list(dict.fromkeys(self.trials["sampler"]))

    @property
    def seeds(self) -> list[int]:
        return sorted(self.trials["seed"].unique().tolist())

    @cached_property
    def best(self) -> pd.DataFrame:
        """The best value so far: a row for each number of trials, a column for each sampler and
        seed; what a search has not come to is NaN."""
        return self.trials.pivot(index="trial", columns=["sampler", "seed"], values="best")

    @property
    def counts(self) -> list[int]:
        """Numbers of trials to compare at: that all searches have come to."""
        shortest = int(self.trials.groupby(["sampler", "seed"])["trial"].max().min())
        return [n for n in _COUNTS if n < shortest] + [shortest]

    def trials_to_target(self) -> pd.DataFrame:
        """For each seed (rows) and sampler (columns), the number of trials until a search had 95 %
        of what the best search of that seed gained over the first trial; infinite if it never
        had."""
        sign = 1.0 if self.maximizes else -1.0
        best = sign * self.best
        reached = {}
        for sampler in self.samplers:
            for seed in self.seeds:
                of_seed = best.xs(seed, axis=1, level="seed")
                first, last = of_seed.iloc[0].max(), of_seed.max().max()
                target = first + TARGET * (last - first)
                own = of_seed[sampler] if sampler in of_seed else pd.Series(dtype=float)
                hits = own.index[own >= target]
                reached[seed, sampler] = float(hits[0]) if len(hits) else np.inf
        return pd.Series(reached).unstack()[self.samplers]

    def differences(self, n_trials: int) -> pd.DataFrame:
        """By how much the best value after so many trials of the first sampler is better than that
        of each other: ``mean``, and ``low`` and ``high`` of the 95 % interval by the bootstrap
        over seeds."""
        sign = 1.0 if self.maximizes else -1.0
        values = sign * self.best.loc[n_trials].unstack("seed")
        first = values.loc[self.samplers[0]]
        rows = {
            other: _interval((first - values.loc[other]).dropna()) for other in self.samplers[1:]
        }
        return pd.DataFrame.from_dict(rows, "index", columns=["mean", "low", "high"])

    def table(self) -> pd.DataFrame:
        """A row for each sampler: the mean best value after some numbers of trials, how much the
        first sampler was ahead at the last of them, with its interval, the median number of
        trials to the target and how many searches came to it, and the median seconds of a
        search."""
        columns: dict[str, Any] = {
            f"best after {n}": self.best.loc[n].groupby("sampler").mean() for n in self.counts
        }
        ahead = self.differences(self.counts[-1])
        columns |= {"behind": ahead["mean"], "low": ahead["low"], "high": ahead["high"]}
        reached = self.trials_to_target()
        columns["trials to target"] = reached.median()
        columns["reached"] = np.isfinite(reached).sum()
        total = self.trials.groupby(["sampler", "seed"])["seconds"].max()
        columns["seconds"] = total.groupby("sampler").median()
        return pd.DataFrame(columns).loc[self.samplers]


def comparable(studies: Iterable[Study]) -> list[list[Study]]:
    """Those that are searches of the same objective under several samplers, group by group: each
    with another sampler or seed, and with a usable trial."""
    groups: dict[str, dict[tuple[str, int], Study]] = {}
    for study in studies:
        search = _search(study)
        if search is not None and study.get_trials(deepcopy=False, states=USABLE):
            groups.setdefault(objective_of(study), {}).setdefault(search, study)
    return [
        list(group.values())
        for group in groups.values()
        if len({sampler for sampler, _ in group}) > 1
    ]


def objective_of(study: Study) -> str:
    """What a study evaluates, as text; searches with other seeds evaluate the same."""
    described = study.user_attrs.get(OBJECTIVE)
    if not isinstance(described, dict):
        return ""
    return json.dumps({k: v for k, v in described.items() if k != "seed"}, sort_keys=True)


def _search(study: Study) -> tuple[str, int] | None:
    """Its sampler and seed, if it says what they are."""
    sampler, seed = study.user_attrs.get(SAMPLER), study.user_attrs.get(SEARCH_SEED, 0)
    # Studies of others may have attributes of these names.
    return (sampler, seed) if isinstance(sampler, str) and isinstance(seed, int) else None


def _rows(study: Study, maximizes: bool) -> list[dict[str, Any]]:
    sampler, seed = _search(study) or (study.study_name, 0)
    trials = study.get_trials(deepcopy=False, states=USABLE)
    trials = [t for t in trials if t.value is not None]
    accumulate = np.maximum.accumulate if maximizes else np.minimum.accumulate
    best = accumulate(np.array([t.value for t in trials], dtype=float))
    durations = [0.0 if t.duration is None else t.duration.total_seconds() for t in trials]
    return [
        {
            "sampler": sampler,
            "seed": seed,
            "trial": i,
            "value": trial.value,
            "best": so_far,
            "seconds": seconds,
        }
        for i, (trial, so_far, seconds) in enumerate(zip(trials, best, np.cumsum(durations)), 1)
    ]


def _interval(differences: pd.Series) -> tuple[float, float, float]:
    values = differences.to_numpy()
    mean = float(values.mean())
    if len(values) < 2:
        return mean, np.nan, np.nan
    found = bootstrap(
        (values,), np.mean, n_resamples=_N_RESAMPLES, method="percentile", random_state=0
    ).confidence_interval
    return mean, float(found.low), float(found.high)
