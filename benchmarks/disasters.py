"""What can happen to a study, made to happen; used by ``benchmarks/reliability.py`` and by
``tests/reliability``.

The studies train a head on digits: real trainings of a second or two, with checkpoints every
twentieth of one. This file is also a program: ``disasters.py join URL FOLDER N_TRIALS [SECONDS
[HEARTBEAT]]`` shares a study, waits for the server for so many seconds, and takes whoever is
silent for three heartbeats for dead.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
import multiprocessing
from multiprocessing.synchronize import Barrier
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
from threading import Thread
import time
from typing import Any
import warnings

from counted_digits import CountedDigits
from counted_digits import is_stored_once
from counted_digits import of_state
from counted_digits import opened
from counted_digits import STUDY
from database_servers import PostgreSQL
from database_servers import Proxy
import optuna
from optuna.trial import TrialState

from cbal_optuna import patience as patience_module
from cbal_optuna import storage as storage_module
from cbal_optuna.patience import StorageUnavailableError
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers import Workers


STUDIES = Path(__file__).parents[1] / "studies"
PATIENCE_SECONDS = 300


@contextmanager
def program(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """This file as a program, which is killed in the end, also if it was stopped."""
    with running([__file__, *map(str, arguments)]) as process:
        yield process


@contextmanager
def running(arguments: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program in Python, which does not outlive the block."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, *arguments]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def join(
    url: str, folder: str, n_trials: str, patience: str = "60", heartbeat: str = "30"
) -> None:
    """What a program does that shares the study; it ends with status 1 and a sentence when the
    database does not come back."""
    storage_module.HEARTBEAT_SECONDS = int(heartbeat)
    patience_module.PATIENCE_SECONDS = float(patience)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study, objective = opened(url, Path(folder))
        run_trials(study, objective, int(n_trials))
    except StorageUnavailableError as error:
        sys.exit(f"error: {error}")


def ended(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """The statuses of processes, and what they said last."""
    said = [process.communicate(timeout=PATIENCE_SECONDS)[1] for process in processes]
    lines = [(text.strip().splitlines() or [""])[-1] for text in said]
    return [(process.returncode, line) for process, line in zip(processes, lines)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.05)


def sleeping(url: str, folder: Path, n_trials: int) -> dict[str, Any]:
    """One of two programs is stopped in a trial until the other has given that up and done it."""
    study, _ = opened(url, folder)
    arguments = ("join", url, folder, n_trials, 60, 1)
    with program(*arguments) as sleeper:
        wait_until(lambda: any(t.intermediate_values for t in of_state(study, TrialState.RUNNING)))
        (trial,) = of_state(study, TrialState.RUNNING)
        sleeper.send_signal(signal.SIGSTOP)
        with program(*arguments) as other:
            wait_until(
                lambda: any(
                    t.system_attrs.get("failed_trial") == trial.number
                    for t in of_state(study, TrialState.COMPLETE)
                )
            )
            sleeper.send_signal(signal.SIGCONT)
            statuses = [status for status, _ in ended(sleeper, other)]
    return {
        "statuses": statuses,
        "given_up": study.trials[trial.number].user_attrs.get("failure"),
        "stored_once": is_stored_once(study, n_trials),
    }


def restarting(
    url: str, folder: Path, server: PostgreSQL | Proxy, n_restarts: int, n_trials: int, seed: int
) -> dict[str, Any]:
    """The server is stopped at random moments, and started again after some seconds, while a
    program with two workers and one without share a study."""
    study, objective = opened(url, folder)
    chance = random.Random(seed)
    downtimes: list[float] = []

    def restart() -> None:
        for _ in range(n_restarts):
            time.sleep(chance.uniform(0.5, 4.0))
            server.stop(chance.choice(("immediate", "fast")))
            downtimes.append(chance.uniform(0.0, 8.0))
            time.sleep(downtimes[-1])
            server.start()

    with program("join", url, folder, n_trials) as other:
        wait_until(lambda: bool(of_state(study, TrialState.RUNNING)))
        thread = Thread(target=restart)
        with Workers(objective, open_storage(url), 2) as workers:
            thread.start()
            run_trials_with(workers, study, objective, n_trials)
        ((status, _),) = ended(other)
        thread.join()
    return {
        "restarts_under_way": len(downtimes),
        "seconds_away": round(sum(downtimes), 1),
        "status_of_other": status,
        "failed": len(of_state(study, TrialState.FAIL)),
        "complete": len(of_state(study, TrialState.COMPLETE)),
        "stored_once": is_stored_once(study, n_trials),
    }


def staying_away(
    url: str, folder: Path, server: PostgreSQL | Proxy, patience: float
) -> dict[str, Any]:
    """The server is stopped for good in a trial of a program."""
    study, _ = opened(url, folder)
    with program("join", url, folder, 1000, patience) as process:
        wait_until(lambda: len(of_state(study, TrialState.COMPLETE)) > 0)
        server.stop()
        begin = time.monotonic()
        ((status, said),) = ended(process)
        seconds = time.monotonic() - begin
    server.start()
    return {"status": status, "said": said, "seconds": round(seconds, 1)}


def _open_at_once(url: str, folder: str, barrier: Barrier) -> None:
    objective = CountedDigits(Path(folder))
    barrier.wait(PATIENCE_SECONDS)
    # As the command line does.
    storage_module.check_storage(url)
    open_study(STUDY, open_storage(url), objective, "cd", 0)


def at_the_same_instant(url: str, folder: Path, n_processes: int) -> dict[str, Any]:
    """Several processes make the same study in the same new database."""
    # Forked, since spawned ones would have to load their modules first.
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(n_processes)
    processes = [
        context.Process(target=_open_at_once, args=(url, str(folder), barrier), daemon=True)
        for _ in range(n_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_SECONDS)
    names = optuna.get_all_study_names(url)
    study = optuna.load_study(study_name=STUDY, storage=url)
    return {
        "statuses": sorted({process.exitcode for process in processes}),
        "studies": len(names),
        "waiting": len(of_state(study, TrialState.WAITING)),
    }


# Signals


Moment = Callable[["subprocess.Popen[str]"], None]


def after(seconds: float) -> Moment:
    """Waits for so long, or until the program ends."""

    def wait(process: subprocess.Popen[str]) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)

    return wait


def once_loaded(module: str) -> Moment:
    """Waits until a program, started with ``-X importtime``, has loaded a module."""

    def wait(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rpartition("|")[2].strip() == module:
                return

    return wait


def signalled(
    arguments: Sequence[str], folder: Path, number: signal.Signals, moment: Moment
) -> str:
    """What ``studies/digits.py`` or another program of ours says that gets a signal at a moment:
    its status and its last line; "done" if it had ended before."""
    options = {
        "cwd": folder,
        "stdout": subprocess.DEVNULL,
        # Not that of a shell's background job, which ignores Ctrl-C.
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    }
    with running(arguments, **options) as process:
        moment(process)
        if process.poll() is not None:
            return "done"
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE_SECONDS)[1]
    if "Traceback" in said:
        return said
    # A shell calls the death by a signal 128 and its number, too.
    status = abs(process.returncode) % 128
    return "quiet end" if status == number else f"status {process.returncode}: {said[-200:]}"


if __name__ == "__main__":
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    {"join": join}[sys.argv[1]](*sys.argv[2:])
