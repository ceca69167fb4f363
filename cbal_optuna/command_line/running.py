"""Runs the study that a script and its command line describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import nullcontext
from functools import partial
from typing import Any
from typing import NoReturn
import warnings

import optuna
from optuna.exceptions import OptunaError
from optuna.study import Study

from cbal_optuna.command_line.data_sets import SCRIPTS
from cbal_optuna.command_line.description import StudyDescription
from cbal_optuna.command_line.following import follow
from cbal_optuna.command_line.objectives import fill_in_defaults
from cbal_optuna.command_line.objectives import objective_of
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.command_line.output import check_places
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.command_line.results import best_params
from cbal_optuna.command_line.results import comparisons
from cbal_optuna.command_line.results import name_value
from cbal_optuna.command_line.results import next_commands
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.convergence import StopWhenConverged
from cbal_optuna.dashboard import DashboardUpdates
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.export import export_model
from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.interruption import silent_end
from cbal_optuna.named_samplers import named_sampler
from cbal_optuna.objectives import InfeasibleSettingError
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.passwords import without_passwords
from cbal_optuna.plain_text import printable
from cbal_optuna.report import result_text
from cbal_optuna.report import write_report
from cbal_optuna.retraining import comparisons_of
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.storage import close_storage
from cbal_optuna.storage import masked
from cbal_optuna.storage import open_storage
from cbal_optuna.storage import Storage
from cbal_optuna.study import check_study
from cbal_optuna.study import FailingTrialsError
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study import run_usual
from cbal_optuna.training import OneProcess
from cbal_optuna.training import Ranks
from cbal_optuna.training import ranks_of_environment
from cbal_optuna.warm_start import warm_start
from cbal_optuna.workers import Cluster
from cbal_optuna.workers import connect
from cbal_optuna.workers import NoWorkerError
from cbal_optuna.workers import RayWorkers
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers import WorkerPool
from cbal_optuna.workers import Workers


# The user attribute of a study that holds its description.
SETTINGS = "settings"


def main(script: StudyScript, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a study as its command line says, and exit: with status 2 if the input is wrong."""
    with silent_end():
        parser = parser_of(script)
        options = parser.parse_args(arguments)
    parser.exit(run_study(parser, script, options))


def run_study(parser: Parser, script: StudyScript, options: argparse.Namespace) -> int:
    """Run a study as its options say; gives the exit status.

    Of several processes that torchrun has started, the first has the study, and the others take
    part in its trainings. What goes wrong, an interruption too, is said by the parser, which
    exits.
    """
    try:
        ranks = ranks_of_environment()
    except (ValueError, RuntimeError) as error:
        parser.error(f"$WORLD_SIZE is set, but the processes of torchrun do not meet: {error}.")
    if isinstance(ranks, Ranks) and not ranks.leads:
        return follow(script, options, ranks)
    try:
        return _led(parser, script, options, ranks)
    finally:
        ranks.end()


def _led(
    parser: Parser, script: StudyScript, options: argparse.Namespace, ranks: OneProcess
) -> int:
    """Run the study in this process; gives the exit status."""
    interruption = Interruption()
    # Other scripts may have options of any kind, and only they can resume their studies.
    is_ours = script in SCRIPTS.values()
    settings = StudyDescription.of(script, options).to_dict() if is_ours else None
    warnings.formatwarning = _warning_without_code
    # Optuna warns of each failed trial, with a traceback; the progress bar says it in one line.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        fill_in_defaults(options, script.name)
        exists = check_places(options)
        named_sampler(options.sampler, {}, options.seed, options.sampler_options)
        if (options.workers or options.ray is not None) and ranks.size > 1:
            given = "--workers" if options.ray is None else "--ray"
            raise ValueError(
                f"`{given}` is {options.ray or options.workers}; it should not be given where "
                "torchrun has all processes do one training together."
            )
        objective = objective_of(script, options, interruption.check)
        objective.share(ranks)
        if exists:
            _check_studies(options, objective)
        elif options.start_from is not None:
            raise ValueError(
                f"`--start-from` is {options.start_from!r}; there is no `--storage` "
                f"{masked(options.storage)} yet that could hold it."
            )
        ranks.prepare(objective.prepare)
        cluster = None if options.ray is None else connect(options.ray, options.storage)
        storage = open_storage(options.storage, while_waiting=interruption.check)
        workers = _workers(options, objective, storage, cluster)
    except (ValueError, OSError, OptunaError, NoWorkerError) as error:
        parser.error(str(error))
    except Interrupted as interrupted:
        parser.exit(128 + interrupted.number, "\nInterrupted. No study was touched.\n")
    interruption.defer()
    try:
        study = _opened(options, objective, storage, settings)
        return _run(options, objective, study, storage, interruption, workers)
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
        close_storage(storage)


def _warning_without_code(
    message: Warning | str, category: object, filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {printable(without_passwords(str(message)))}\n"


def _workers(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    storage: Storage,
    cluster: Cluster | None,
) -> WorkerPool | None:
    if cluster is not None:
        n_tasks = options.workers or 1
        return RayWorkers(objective, storage, n_tasks, cluster, device=options.device)
    return None if options.workers is None else Workers(objective, storage, options.workers)


def _check_studies(options: argparse.Namespace, objective: Objective[Outcome]) -> None:
    """See that the studies of these names, if there are, are of this objective, and that there is
    a start.

    Raises:
        ValueError: One of them is not, or there is none.
    """
    storage = open_storage(options.storage)
    with ExitStack() as stack:
        stack.callback(close_storage, storage)
        existing = optuna.get_all_study_names(storage)
        for fresh_seeds in ("", VALIDATION, TEST):
            name = ".".join(filter(None, (options.study_name, fresh_seeds)))
            if name in existing:
                check_study(
                    optuna.load_study(study_name=name, storage=storage), objective, fresh_seeds
                )
        warm_start(options.study_name, storage, objective.space, options.start_from)


def _opened(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    storage: Storage,
    settings: dict[str, Any] | None,
) -> Study:
    """The study, which says how it is run."""
    study = open_study(
        options.study_name,
        storage,
        objective,
        options.sampler,
        options.seed,
        start_from=options.start_from,
        sampler_options=options.sampler_options,
    )
    if settings not in (None, study.user_attrs.get(SETTINGS)):
        study.set_user_attr(SETTINGS, settings)
    return study


def _run(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    study: Study,
    storage: Storage,
    interruption: Interruption,
    workers: WorkerPool | None,
) -> int:
    """Run the study and show its result; gives the exit status."""
    name_value(study, objective)
    print(f"{study.study_name}: {options.n_trials} trials, stored in {masked(options.storage)}")
    confirmed: list[SettingComparison] = []
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
            confirmed.extend(comparisons(options, objective, study, storage, workers, between))
    finally:
        print(f"\n{result_text(study, confirmed)}\n")
        write_report(options.report, study, confirmed)
        update_dashboard(study)
        print(printable(next_commands(options)))
    best = best_params(study)
    if best and options.export is not None:
        export_model(options.export, objective, study, comparisons_of(study))
        print(f"Model: {printable(options.export)}")
    return 0 if best else 1
