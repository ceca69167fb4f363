"""Runs the study that a script and its command line describe."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from typing import NoReturn
import warnings

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage

from cbal_optuna.command_line.options import FINAL_SEEDS
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.command_line.output import check_report
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.convergence import StopWhenConverged
from cbal_optuna.dashboard import DashboardUpdates
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.data import default_cache_directory
from cbal_optuna.export import check_folder
from cbal_optuna.export import export_model
from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.objectives import InfeasibleSettingError
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import Setting
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.report import METRIC_NAMES
from cbal_optuna.report import result_text
from cbal_optuna.report import write_report
from cbal_optuna.retraining import compare_settings
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.retraining import stored_comparisons
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import masked
from cbal_optuna.storage import open_storage
from cbal_optuna.storage import sqlite_file
from cbal_optuna.study import check_study
from cbal_optuna.study import FailingTrialsError
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study import run_usual
from cbal_optuna.summary import summarize
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import RANDOM
from cbal_optuna.training import TrainingOptions
from cbal_optuna.warm_start import warm_start
from cbal_optuna.workers import NoWorkerError
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers import Workers


def main(script: StudyScript, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a study as its command line says, and exit: with status 2 if the input is wrong."""
    parser = parser_of(script)
    options = parser.parse_args(arguments)
    fill_in_defaults(options, script.name)
    interruption = Interruption()
    warnings.formatwarning = _warning_without_code
    # Optuna warns of each failed trial, with a traceback; the progress bar says it in one line.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        exists = _check_places(options)
        objective = _objective(script, options, interruption)
        if exists:
            _check_studies(options, objective)
        elif options.start_from is not None:
            raise ValueError(
                f"`--start-from` is {options.start_from!r}; there is no `--storage` "
                f"{masked(options.storage)} yet that could hold it."
            )
        objective.prepare()
        storage = open_storage(options.storage)
        workers = Workers(objective, storage, options.workers) if options.workers > 1 else None
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except Interrupted as interrupted:
        parser.exit(128 + interrupted.number, "\nInterrupted. No study was touched.\n")
    interruption.defer()
    try:
        status = _run(options, objective, storage, interruption, workers)
    except Interrupted as interrupted:
        parser.exit(
            128 + interrupted.number,
            "\nInterrupted. The study is kept; the same command resumes it.\n",
        )
    except (
        FailingTrialsError,
        InfeasibleSettingError,
        NoWorkerError,
        OptunaError,
        OSError,
    ) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    finally:
        storage.engine.dispose()
    parser.exit(status)


def fill_in_defaults(options: argparse.Namespace, name: str) -> None:
    """The defaults that depend on other options or the environment."""
    if options.study_name is None:
        loss = "" if options.loss == "infonce" else f"-{options.loss}"
        sampler = "" if options.sampler == "cd" else f"-{options.sampler}"
        options.study_name = f"{name}{loss}{sampler}"
    if options.report is None:
        options.report = Path(f"{options.study_name}.html")
    if options.cache_dir is None:
        options.cache_dir = default_cache_directory()
    if options.checkpoint_dir is None:
        options.checkpoint_dir = options.cache_dir / "checkpoints"
    fine_tuned = options.weights != RANDOM and not getattr(options, "head_only", False)
    if options.learning_rate is None:
        options.learning_rate = 1e-4 if fine_tuned else 1e-3
    if options.batch_norm is None:
        options.batch_norm = "frozen" if fine_tuned else "train"


def _warning_without_code(
    message: Warning | str, category: object, filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {message}\n"


def _objective(
    script: StudyScript, options: argparse.Namespace, interruption: Interruption
) -> Objective[Outcome]:
    batch_sizes = sorted(set(options.batch_sizes))
    space = script.space(
        options.loss,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        batch_size=CategoricalDistribution(batch_sizes)
        if len(batch_sizes) > 1
        else batch_sizes[0],
    )
    training = TrainingOptions(
        samples=options.samples,
        learning_rate_rule=options.learning_rate_rule,
        micro_batch=options.micro_batch,
        batch_norm=options.batch_norm,
    )
    own: dict[str, Any] = {"augmentation": script.augmentation, "test_share": script.test_share}
    return script.objective(
        script.dataset(options),
        backbone=options.backbone,
        weights=options.weights,
        image_size=options.image_size,
        embedding_dim=options.embedding_dim,
        loss=options.loss,
        space=space,
        repeats=options.repeats,
        folds=options.folds,
        prune=options.prune,
        device=options.device,
        seed=options.seed,
        cache_directory=options.cache_dir,
        cache_images=options.cache_images,
        checkpoints=Checkpoints(options.checkpoint_dir, options.checkpoint_every),
        on_step=interruption.check,
        **script.own_arguments(options, training),
        **{name: value for name, value in own.items() if value is not None},
    )


def _check_places(options: argparse.Namespace) -> bool:
    """See that report, checkpoints, storage and export can be written to, before anything is, and
    whether the storage exists.

    Raises:
        ValueError: Report or storage cannot.
        OSError: The export cannot.
    """
    check_report("--report", options.report, options.storage)
    if options.checkpoint_dir.exists() and not options.checkpoint_dir.is_dir():
        raise ValueError(
            f"`--checkpoint-dir` is {str(options.checkpoint_dir)!r}, a file, not a folder."
        )
    exists = check_storage(options.storage)
    if options.export is not None:
        weights = Path(options.weights)
        kept = [options.report, sqlite_file(options.storage), options.cache_dir]
        kept.append(options.checkpoint_dir)
        kept += [weights] * weights.is_file()
        check_folder(options.export, *(path for path in kept if path is not None))
    return exists


def _check_studies(options: argparse.Namespace, objective: Objective[Outcome]) -> None:
    """See that the studies of these names, if there are, are of this objective, and that there is
    a start.

    Raises:
        ValueError: One of them is not, or there is none.
    """
    storage = open_storage(options.storage)
    existing = optuna.get_all_study_names(storage)
    for fresh_seeds in ("", VALIDATION, TEST):
        name = ".".join(filter(None, (options.study_name, fresh_seeds)))
        if name in existing:
            check_study(
                optuna.load_study(study_name=name, storage=storage), objective, fresh_seeds
            )
    warm_start(options.study_name, storage, objective.space, options.start_from)


def _run(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    storage: RDBStorage,
    interruption: Interruption,
    workers: Workers | None,
) -> int:
    """Run the study and show its result; gives the exit status."""
    study = open_study(
        options.study_name,
        storage,
        objective,
        options.sampler,
        options.seed,
        start_from=options.start_from,
    )
    _name_value(study, objective)
    print(f"{study.study_name}: {options.n_trials} trials, stored in {masked(options.storage)}")
    comparisons: list[SettingComparison] = []
    updates, convergence = DashboardUpdates(study), StopWhenConverged()

    def between() -> None:
        interruption.check()
        updates()

    begin = run_trials if workers is None else partial(run_trials_with, workers)
    run = partial(begin, study, objective, between=between)
    try:
        with workers or nullcontext():
            run(
                options.n_trials,
                options.timeout,
                stop=lambda study: options.stop_when_converged and convergence.is_time(study),
            )
            if options.timeout is None:
                run_usual(study, objective, run)
            comparisons.extend(_comparisons(options, objective, study, storage, workers, between))
    finally:
        print(f"\n{result_text(study, comparisons)}\n")
        write_report(options.report, study, comparisons)
        update_dashboard(study, comparisons)
        print(_next_commands(options))
    best = _best_params(study)
    if best and options.export is not None:
        usual = objective.space.searched(objective.space.usual)
        known = stored_comparisons(storage, study.study_name, usual, best)
        export_model(options.export, objective, study, known)
        print(f"Model: {options.export}")
    return 0 if best else 1


def _name_value(study: optuna.Study, objective: Objective[Outcome]) -> None:
    """For the dashboard and the figures."""
    measure = objective.measures(VALIDATION)[0]
    names = [METRIC_NAMES.get(measure, measure)]
    if study.metric_names != names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(names)


def _best_params(study: optuna.Study) -> Setting:
    """Those of the best trial; none if no trial has a feasible value."""
    try:
        return summarize(study).recommended.params
    except ValueError:
        return {}


def _comparisons(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    study: optuna.Study,
    storage: RDBStorage,
    workers: Workers | None,
    between: Callable[[], None],
) -> Iterator[SettingComparison]:
    usual, best = objective.space.searched(objective.space.usual), _best_params(study)
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


def _next_commands(options: argparse.Namespace) -> str:
    return (
        f"Report: {options.report}\n"
        f"Dashboard: optuna-dashboard {masked(options.storage)}"
        '    (pip install ".[dashboard]")'
    )
