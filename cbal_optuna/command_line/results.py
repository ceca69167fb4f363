"""What a study ends with: its settings on fresh seeds, its value's name, and where to look."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning

from cbal_optuna.command_line.options import FINAL_SEEDS
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import Setting
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.report import METRIC_NAMES
from cbal_optuna.retraining import compare_settings
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.storage import masked
from cbal_optuna.storage import Storage
from cbal_optuna.summary import summarize
from cbal_optuna.workers import WorkerPool


def name_value(study: optuna.Study, objective: Objective[Outcome]) -> None:
    """For the dashboard and the figures."""
    measure = objective.measures(VALIDATION)[0]
    names = [METRIC_NAMES.get(measure, measure)]
    if study.metric_names != names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(names)


def best_params(study: optuna.Study) -> Setting:
    """Those of the best trial; none if no trial has a feasible value."""
    try:
        return summarize(study).recommended.params
    except ValueError:
        return {}


def comparisons(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    study: optuna.Study,
    storage: Storage,
    workers: WorkerPool | None,
    between: Callable[[], None],
) -> Iterator[SettingComparison]:
    """Its usual and its best setting on fresh seeds, as far as the options ask for it."""
    usual, best = objective.space.searched(objective.space.usual), best_params(study)
    wanted = {VALIDATION: options.confirm, TEST: FINAL_SEEDS if options.final else 0}
    if best == usual:
        # Its test result is still asked for.
        del wanted[VALIDATION]
    for part, n_seeds in wanted.items():
        if n_seeds and best:
            yield compare_settings(
                objective,
                storage,
                study.study_name,
                usual,
                best,
                part=part,
                n_seeds=n_seeds,
                workers=workers,
                between=between,
            )


def next_commands(options: argparse.Namespace) -> str:
    """Where to look at a study."""
    return (
        f"Report: {options.report}\n"
        f"Dashboard: python -m cbal_optuna dashboard {masked(options.storage)}"
        '    (pip install ".[dashboard]")'
    )
