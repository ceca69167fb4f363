"""Runs one study under several samplers and seeds, and compares how they searched."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import importlib.util
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import NoReturn

import optuna
from optuna.study import Study
from tqdm import tqdm

from cbal_optuna.command_line.argument_types import LARGEST_SEED
from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.argument_types import positive
from cbal_optuna.command_line.objectives import fill_in_defaults
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.command_line.output import made_folder
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.comparison import SamplerComparison
from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.named_samplers import SAMPLERS
from cbal_optuna.plain_text import printable
from cbal_optuna.report import comparison_text
from cbal_optuna.report import write_comparison
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import open_storage
from cbal_optuna.storage import Storage
from cbal_optuna.study import USABLE


_POLL_SECONDS = 3.0
# A search that is told to end finishes its step; this is for one that does not.
_PATIENCE_SECONDS = 60.0


class SearchError(RuntimeError):
    """A search ended with an error.

    Args:
        message:
            What it said last.
        status:
            Its exit status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Search:
    """A study script under one sampler and seed; ``command`` runs or resumes it."""

    study_name: str
    command: list[str]


def main_of_comparison(studies: Path, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a comparison as its command line says, and exit: with status 2 if the input is wrong.

    Args:
        studies:
            The folder of the study scripts.
        arguments:
            Of the command line.
    """
    interruption = Interruption()
    interruption.defer()
    parser = _parser(studies)
    options, rest = parser.parse_known_args(arguments)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        parser.error("torchrun is for a single study; `--jobs` is for several searches at a time.")
    script_file = studies / f"{options.study}.py"
    study_parser = parser_of(_script(script_file))
    study_parser.prog = f"{parser.prog} {options.study}"
    study_parser.set_defaults(confirm=0)
    study_options = study_parser.parse_args(rest)
    for name in ("sampler", "report", "final", "export"):
        if getattr(study_options, name) != study_parser.get_default(name):
            parser.error(f"`--{name}` is of a single search; `--samplers` names those to compare.")
    if study_options.seed + options.seeds > LARGEST_SEED:
        parser.error(
            f"`--seed` {study_options.seed} and `--seeds` {options.seeds} go beyond "
            f"{LARGEST_SEED}; they should not."
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        output = made_folder(options.output or Path(f"compare-{options.study}"))
        check_storage(study_options.storage)
        with tempfile.TemporaryDirectory() as scratch:
            searches = _searches(options, study_options, script_file, rest, Path(scratch))
            _run(searches, study_options, options.jobs, interruption)
        comparison = SamplerComparison.of(_stored(searches, open_storage(study_options.storage)))
        print(f"\n{comparison_text(comparison)}\n")
        write_comparison(output, comparison, f"{options.study}: samplers compared")
        print(f"Written to {printable(output)}{os.sep}: index.html, table.csv, trials.csv")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except Interrupted as interrupted:
        parser.exit(
            128 + interrupted.number,
            "\nInterrupted. The searches are kept; the same command resumes them.\n",
        )
    except SearchError as error:
        parser.exit(error.status, f"{error}\n")
    parser.exit()


def _parser(studies: Path) -> Parser:
    names = sorted(path.stem for path in studies.glob("*.py") if _is_study(path))
    parser = Parser(
        description="Run a study under several samplers and seeds, and compare how they search. "
        "All options of the study may be given too.",
        epilog="example: %(prog)s digits --samplers cd tpe random gp --seeds 5 --n-trials 40. "
        "Running the same command again resumes what is not done.",
        # --seed is an option of the study.
        allow_abbrev=False,
    )
    parser.add_argument("study", choices=names, metavar="STUDY", help=f"one of {', '.join(names)}")
    parser.add_argument(
        "--samplers",
        nargs="+",
        choices=SAMPLERS,
        default=["cd", "tpe", "random", "gp"],
        help="the first is what the others are compared with (default: cd tpe random gp)",
    )
    parser.add_argument(
        "--seeds",
        type=positive,
        default=5,
        metavar="N",
        help="searches with each sampler, from --seed on (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="searches at a time (default: 1)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="DIR",
        help="gets the figure and the tables (default: compare-STUDY)",
    )
    return parser


def _is_study(path: Path) -> bool:
    return "\nSCRIPT = " in path.read_text(encoding="utf-8")


def _script(path: Path) -> StudyScript:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    script: StudyScript = module.SCRIPT
    return script


def _searches(
    options: argparse.Namespace,
    study_options: argparse.Namespace,
    script_file: Path,
    rest: Sequence[str],
    scratch: Path,
) -> list[Search]:
    """By seed, so that what is done when the comparison is interrupted can be compared."""
    searches: list[Search] = []
    for seed in range(study_options.seed, study_options.seed + options.seeds):
        for sampler in dict.fromkeys(options.samplers):
            own = argparse.Namespace(**{**vars(study_options), "sampler": sampler})
            fill_in_defaults(own, script_file.stem)
            name = f"{own.study_name}-seed{seed}"
            # Later ones hold, and --confirm may have been asked for.
            changed = ["--sampler", sampler, "--seed", str(seed), "--study-name", name]
            if study_options.confirm == 0:
                changed += ["--confirm", "0"]
            report = scratch / f"{len(searches)}.html"
            command = [sys.executable, str(script_file), *rest, *changed, "--report", str(report)]
            searches.append(Search(name, command))
    return searches


def _run(
    searches: Sequence[Search],
    study_options: argparse.Namespace,
    jobs: int,
    interruption: Interruption,
) -> None:
    """Each search in a process of its own, with one progress bar for all."""
    waiting, running = list(searches), list[_Process]()
    total = len(searches) * study_options.n_trials
    storage: Storage | None = None
    with _ended(running), tqdm(total=total, desc="trials of all searches", unit="trial") as bar:
        while waiting or running:
            interruption.check()
            for process in [p for p in running if p.has_ended()]:
                running.remove(process)
            if storage is None and check_storage(study_options.storage):
                storage = open_storage(study_options.storage)
            studies = [] if storage is None else _stored(searches, storage)
            # The first one decodes the images for all, and finds what is wrong with the input.
            n_allowed = jobs if studies else 1
            done = {s.study_name: min(_n_usable(s), study_options.n_trials) for s in studies}
            while waiting and len(running) < n_allowed:
                search = waiting.pop(0)
                # The first one also finds out whether what is done has had the same options.
                is_done = done.get(search.study_name) == study_options.n_trials
                if search is searches[0] or not is_done:
                    running.append(_Process(search))
            bar.n = sum(done.values())
            bar.refresh()
            time.sleep(_POLL_SECONDS)


class _Process:
    """A search under way."""

    def __init__(self, search: Search) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            search.command,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            # Ctrl-C comes to the comparison alone, which passes it on once.
            start_new_session=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )

    def has_ended(self) -> bool:
        """Raises SearchError if it did so with an error."""
        status = self._process.poll()
        if status:
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or [f"ended with status {status}"]
            raise SearchError(said[-1], status if status > 0 else 1)
        return status is not None

    def end(self) -> None:
        """At its next step, so that nothing that is stored is lost."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _ended(running: Sequence[_Process]) -> Iterator[None]:
    """Whatever happens, no process stays behind."""
    try:
        yield
    finally:
        for process in running:
            process.end()


def _stored(searches: Sequence[Search], storage: Storage) -> list[Study]:
    """The studies of those that have begun."""
    existing = set(optuna.get_all_study_names(storage))
    names = [s.study_name for s in searches if s.study_name in existing]
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def _n_usable(study: Study) -> int:
    return len(study.get_trials(deepcopy=False, states=USABLE))
