"""Workers: what each is given, and what becomes of it when they die, share or are interrupted.

This file is also a program that joins a study: ``test_workers.py URL CACHE``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
import multiprocessing
import os
from pathlib import Path
import pickle
import signal
import subprocess
import sys
import time
from typing import Any
import warnings

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest
import torch

from cbal_optuna.data import Digits
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.stored_trials import ask
from cbal_optuna.study import FailingTrialsError
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.training import TrainingOptions
from cbal_optuna.workers import NoWorkerError
from cbal_optuna.workers import Place
from cbal_optuna.workers import places
from cbal_optuna.workers import pool
from cbal_optuna.workers import process
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers import study_trials
from cbal_optuna.workers import trainings
from cbal_optuna.workers import TrialSource
from cbal_optuna.workers import Workers
from cbal_optuna.workers.process import evaluate_task
from cbal_optuna.workers.process import Task
from cbal_optuna.workers.worker import DeadWorkerError
from cbal_optuna.workers.worker import Worker


STUDIES = Path(__file__).parents[1] / "studies"
PATIENCE_SECONDS = 240
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
N_TRIALS = 10
Objectives = Callable[..., RetrievalObjective]


class WorkerInPlace:
    """Evaluates in this process what a worker process would be given."""

    def __init__(self, objective: RetrievalObjective, storage: RDBStorage) -> None:
        self.storage = storage
        self._objective = objective

    def __len__(self) -> int:
        return 1

    def run(self, source: TrialSource, between: Callable[[], None] = lambda: None) -> None:
        while not source.is_over():
            between()
            trial = source.next()
            if trial is not None:
                task = Task(source.study.study_name, trial._trial_id, source.evaluation)
                evaluate_task(task, self._objective, self.storage)
                source.ended(self.storage.get_trial(trial._trial_id))


def opened(objective: RetrievalObjective, url: str) -> tuple[Study, Any]:
    """The study, and a worker for it."""
    storage = open_storage(url)
    study = open_study("tiny", storage, objective, "cd", 0)
    return study, WorkerInPlace(objective, storage)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


# Where


@pytest.mark.parametrize(
    ("n_workers", "n_devices", "indices", "shares"),
    [
        (1, 1, [0], [1]),
        (2, 4, [0, 1], [1, 1]),
        (4, 2, [0, 1, 0, 1], [1 / 2] * 4),
        (5, 2, [0, 1, 0, 1, 0], [1 / 3, 1 / 2, 1 / 3, 1 / 2, 1 / 3]),
    ],
)
def test_workers_take_the_devices_in_turn_and_share_their_memory(
    n_workers: int, n_devices: int, indices: list[int], shares: list[float]
) -> None:
    taken = places(CUDA, n_workers, n_devices=n_devices, n_threads=8)
    assert [place.device.index for place in taken] == indices
    assert [place.memory_share for place in taken] == shares


def test_workers_stay_on_a_device_that_is_named() -> None:
    device = torch.device("cuda", 1)
    taken = places(device, 3, n_devices=4, n_threads=8)
    assert {(place.device, place.memory_share) for place in taken} == {(device, 1 / 3)}


@pytest.mark.parametrize(("n_threads", "each"), [(4, 1), (16, 4), (2, 1)])
def test_workers_divide_the_threads(n_threads: int, each: int) -> None:
    taken = places(CPU, 4, n_devices=0, n_threads=n_threads)
    assert {place.n_threads for place in taken} == {each}
    assert {place.device for place in taken} == {CPU}


# What


def test_one_worker_equals_none(tiny_objective: Objectives, url: str, tmp_path: Path) -> None:
    objective = tiny_objective()
    study, worker = opened(objective, url)
    run_trials_with(worker, study, objective, 6)
    alone, _ = opened(objective, f"sqlite:///{tmp_path}/alone.db")
    run_trials(alone, objective, 6)
    assert [t.params for t in study.trials] == [t.params for t in alone.trials]
    assert [t.value for t in study.trials] == [t.value for t in alone.trials]


@pytest.mark.parametrize("with_workers", [False, True])
def test_a_study_that_has_its_trials_still_looks_for_those_of_dead_workers(
    tiny_objective: Objectives, url: str, with_workers: bool
) -> None:
    objective = tiny_objective()
    study, worker = opened(objective, url)
    killed = ask(study)
    objective.space.suggest(killed)
    run_trials(study, objective, 2)
    with worker.storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
    run = partial(run_trials_with, worker) if with_workers else run_trials
    run(study, objective, 2)
    assert study.trials[killed.number].state == TrialState.FAIL
    assert study.trials[-1].state == TrialState.WAITING


def test_a_comparison_by_a_worker_equals_one_without(
    tiny_objective: Objectives, url: str, tmp_path: Path
) -> None:
    objective = tiny_objective()
    usual = {"balance": 1.0, "temperature": 0.1, "batch_size": 16}
    settings = (usual, {**usual, "balance": 4.0})
    _, worker = opened(objective, url)
    compared = [
        compare_settings(
            objective, storage, "tiny", *settings, part="validation", n_seeds=2, workers=workers
        )
        for storage, workers in (
            (worker.storage, worker),
            (open_storage(f"sqlite:///{tmp_path}/alone.db"), None),
        )
    ]
    for metric in compared[0].usual:
        assert compared[0].usual[metric].tolist() == compared[1].usual[metric].tolist()
        assert compared[0].best[metric].tolist() == compared[1].best[metric].tolist()
    by_worker, alone = (comparison.pictures for comparison in compared)
    assert by_worker is not None and alone is not None
    assert by_worker.read() == alone.read()


def test_a_worker_stops_when_it_is_asked_to(tiny_objective: Objectives, url: str) -> None:
    objective = tiny_objective()
    study, worker = opened(objective, url)
    run_trials_with(worker, study, objective, 5, stop=lambda study: len(study.trials) == 2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_after_the_timeout_no_trial_is_begun(tiny_objective: Objectives, url: str) -> None:
    objective = tiny_objective()
    study, worker = opened(objective, url)
    run_trials_with(worker, study, objective, 5, timeout=0)
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


def test_failures_in_a_row_end_the_study_of_a_worker(
    tiny_objective: Objectives, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(objective: RetrievalObjective, trial: Trial) -> float:
        raise OSError("the disk is gone")

    monkeypatch.setattr(study_trials._StudyTrials, "evaluation", staticmethod(fails))
    objective = tiny_objective()
    study, worker = opened(objective, url)
    with pytest.raises(FailingTrialsError, match="3 trials in a row failed.*the disk is gone"):
        run_trials_with(worker, study, objective, 10)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3


def test_a_training_that_fails_ends_a_comparison(tiny_objective: Objectives, url: str) -> None:
    def fails(objective: RetrievalObjective, trial: Trial) -> float:
        raise OSError("the disk is gone")

    objective = tiny_objective()
    study, worker = opened(objective, url)
    wanted = [({"balance": 1.0, "temperature": 0.1, "batch_size": 16}, 1000)]
    with pytest.raises(FailingTrialsError, match="fresh seed failed: OSError: the disk is gone"):
        trainings.train_with(worker, study, objective.space, wanted, fails, "title")


def test_an_interrupted_trial_ends_its_worker(tiny_objective: Objectives, url: str) -> None:
    def interrupted(objective: RetrievalObjective, trial: Trial) -> float:
        raise KeyboardInterrupt

    objective = tiny_objective()
    study, worker = opened(objective, url)
    trial = study.ask()
    with pytest.raises(KeyboardInterrupt):
        evaluate_task(Task("tiny", trial._trial_id, interrupted), objective, worker.storage)
    assert study.trials[0].state == TrialState.FAIL


# How many


def source_of(study: Study, objective: RetrievalObjective, n_trials: int) -> TrialSource:
    storage = open_storage(study._storage._backend.url)  # type: ignore[attr-defined]
    progress = study_trials.Progress(study_trials.tqdm(total=n_trials, disable=True))
    return study_trials._StudyTrials(
        optuna.load_study(study_name="tiny", storage=storage, sampler=study.sampler),
        storage,
        objective.space,
        n_trials,
        float("inf"),
        progress,
        lambda study: False,
    )


def test_trials_under_way_elsewhere_count(tiny_objective: Objectives, url: str) -> None:
    objective = tiny_objective()
    study, _ = opened(objective, url)
    one, other = (source_of(study, objective, 3) for _ in range(2))
    assert one.next() is not None and one.next() is not None and other.next() is not None
    assert one.next() is None and other.next() is None
    study.tell(1, state=TrialState.FAIL)
    assert other.next() is not None and one.next() is None


def test_of_two_who_ask_for_the_last_trial_at_once_one_puts_it_back(
    tiny_objective: Objectives, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective()
    study, _ = opened(objective, url)
    one, other = (source_of(study, objective, 1) for _ in range(2))
    ask, taken = study_trials.ask, list[Trial | None]()

    def ask_second(study: Study) -> Trial:
        monkeypatch.setattr(study_trials, "ask", ask)
        taken.append(one.next())
        return ask(study)

    monkeypatch.setattr(study_trials, "ask", ask_second)
    assert other.next() is None
    assert taken[0] is not None
    assert [t.state for t in study.trials] == [TrialState.RUNNING, TrialState.WAITING]
    taken[0].study.tell(taken[0], 0.5)
    assert one.is_over() and other.is_over()


def test_of_two_who_share_a_comparison_none_trains_what_the_other_does(
    tiny_objective: Objectives, url: str
) -> None:
    objective = tiny_objective()
    study, _ = opened(objective, url)
    setting = {"balance": 1.0, "temperature": 0.1, "batch_size": 16}
    wanted = [(setting, 1000), (setting, 1001), (setting, 1002)]
    one, other = (
        trainings._Trainings(
            optuna.load_study(study_name="tiny", storage=storage),
            storage,
            objective.space,
            wanted,
            lambda objective, trial: 0.0,
            trainings.tqdm(disable=True),
        )
        for storage in (open_storage(url), open_storage(url))
    )
    # Queued twice, as by two at once.
    for _ in range(2):
        study.enqueue_trial(setting, user_attrs={"seed": 1000})
    taken = [source.next() for source in (one, other) * 5]
    seeds = [trial.user_attrs["seed"] for trial in taken if trial is not None]
    assert seeds == [1000, 1001, 1002]


# Dead


class DeadWorker:
    """Dies whenever something is given to it."""

    def __init__(self, number: int, *arguments: object) -> None:
        self.number = number
        self.trial_id: int | None = None
        self.n_deaths = 0
        self.start()

    def start(self) -> None:
        self.connection, self._other_end = multiprocessing.Pipe()
        self.is_idle = True

    def give(self, task: Task) -> None:
        self.trial_id, self.is_idle = task.trial_id, False
        self._other_end.close()

    def hear(self) -> str | None:
        self.n_deaths += 1
        raise DeadWorkerError("was killed by SIGKILL")

    def ask_to_end(self) -> None:
        self.connection.close()

    def join(self) -> None: ...

    def kill(self) -> None: ...


def test_workers_that_die_again_and_again_are_given_up(
    tiny_objective: Objectives,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pool, "Worker", DeadWorker)
    monkeypatch.setattr(pool.pickle, "dumps", lambda objective: b"")
    objective = tiny_objective()
    study, _ = opened(objective, url)
    with (
        pytest.raises(NoWorkerError, match="no worker is left, the last was killed by SIGKILL"),
        Workers(objective, open_storage(url), 1) as workers,
    ):
        run_trials_with(workers, study, objective, 5)
    lines = capsys.readouterr().err
    assert lines.count("worker 0: was killed by SIGKILL; it is started again") == 3
    assert lines.count("as before; it is not started again") == 1
    assert {trial.state for trial in study.trials} == {TrialState.FAIL}


class NothingToTrain:
    def prepare(self) -> None: ...

    def move(self, device: torch.device, on_step: Callable[[], None]) -> None: ...


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[Any]:
    """The parent's end of a pipe, and a worker at the other."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    verbosity = optuna.logging.get_verbosity()
    file = tmp_path / "objective.pickle"
    file.write_bytes(pickle.dumps(NothingToTrain()))
    parent, other = multiprocessing.Pipe()
    yield parent, partial(process.work, other, file, Place(CPU, 1.0, 1), url)
    optuna.logging.set_verbosity(verbosity)


def test_a_worker_that_loses_its_storage_says_so(
    ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: object) -> None:
        raise ConnectionError("`storage` grpc://head:13000 does not answer")

    monkeypatch.setattr(process, "evaluate_task", lost)
    parent, work = ends
    parent.send(Task("tiny", 0, study_trials._evaluated))
    with pytest.raises(SystemExit) as exit:
        work()
    assert exit.value.code == 1
    assert parent.recv() is process.READY
    assert parent.recv() == "ConnectionError: `storage` grpc://head:13000 does not answer"


def test_a_worker_whose_parent_is_gone_ends_silently(
    ends: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    parent, work = ends
    parent.close()
    work()
    assert capfd.readouterr() == ("", "")


def test_an_objective_that_cannot_be_sent_is_refused(tiny_objective: Objectives, url: str) -> None:
    objective = tiny_objective()
    objective.dataset.image = lambda index: None  # type: ignore[method-assign, return-value, assignment]
    with pytest.raises(ValueError, match="`workers` is 2; they need an objective"):
        Workers(objective, open_storage(url), 2)


def test_an_objective_is_sent_without_what_belongs_to_the_process(
    tiny_objective: Objectives,
) -> None:
    objective = tiny_objective(on_step=lambda: None)
    objective.prepare()
    sent = pickle.loads(pickle.dumps(objective))
    assert sent._regime is None and sent._on_step is None
    assert sent.description == objective.description


# All of it, in processes


def digits(cache: Path) -> RetrievalObjective:
    return RetrievalObjective(
        Digits(),
        backbone="test_resnet",
        weights="random",
        head_only=True,
        image_size=32,
        embedding_dim=8,
        space=SearchSpace(batch_size=CategoricalDistribution((32, 64))),
        training=TrainingOptions(samples=20_000),
        cache_directory=cache,
    )


def join(url: str, cache: Path, n_workers: int, between: Callable[[], None]) -> None:
    objective = digits(cache)
    objective.prepare()
    storage = open_storage(url)
    study = open_study("shared", storage, objective, "cd", 0)
    with Workers(objective, storage, n_workers) as workers:
        run_trials_with(workers, study, objective, N_TRIALS, between=between)


def join_second(url: str, cache: Path) -> None:
    """With one worker, once the others have begun two trials; else they could come too late."""
    reader = optuna.load_study(study_name="shared", storage=url)

    def wait_for_the_others() -> None:
        while n_begun(reader) < 2:
            time.sleep(0.05)

    join(url, cache, 1, wait_for_the_others)


def n_begun(study: Study) -> int:
    return sum(trial.datetime_start is not None for trial in study.trials)


@dataclass
class Shared:
    """A study that two parents with processes of their own have run, one of which was killed."""

    trials: list[FrozenTrial]
    objective: RetrievalObjective
    n_given: int
    """Trials of the parent with two workers."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp("shared")
    url, cache = f"sqlite:///{folder}/study.db", folder / "cache"
    given: list[Task] = []
    give = Worker.give

    def give_and_kill(worker: Worker, task: Task) -> None:
        give(worker, task)
        given.append(task)
        if len(given) == 4:
            worker.kill()

    def wait_for_the_other() -> None:
        """Once there are two trials, else it would come too late."""
        while len(given) == 2 and n_begun(reader) == 2:
            assert other.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)

    digits(cache).prepare()
    open_study("shared", open_storage(url), digits(cache), "cd", 0)
    reader = optuna.load_study(study_name="shared", storage=url)
    deadline = time.monotonic() + PATIENCE_SECONDS
    other = subprocess.Popen([sys.executable, __file__, url, str(cache)])
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Worker, "give", give_and_kill)
            join(url, cache, 2, wait_for_the_other)
        assert other.wait(PATIENCE_SECONDS) == 0
    finally:
        other.kill()
    return Shared(reader.trials, digits(cache), len(given))


def test_two_parents_run_as_many_trials_as_wanted_and_no_more(shared: Shared) -> None:
    states = [trial.state for trial in shared.trials]
    assert states.count(TrialState.COMPLETE) == N_TRIALS
    assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING}
    assert 4 <= shared.n_given <= N_TRIALS


def test_the_usual_setting_comes_first_and_once(shared: Shared) -> None:
    usual = shared.objective.space.searched(shared.objective.space.usual)
    assert [t.number for t in shared.trials if t.params == usual] == [0]


def test_the_trial_of_a_killed_worker_is_evaluated_by_another(shared: Shared) -> None:
    (dead,) = (t for t in shared.trials if t.state == TrialState.FAIL)
    (retried,) = (t for t in shared.trials if t.system_attrs.get("failed_trial") == dead.number)
    assert dead.user_attrs["failure"] == "its worker was killed by SIGKILL"
    assert retried.state == TrialState.COMPLETE and retried.params == dead.params


def test_a_value_does_not_depend_on_the_process(shared: Shared) -> None:
    objective = shared.objective
    trial = next(t for t in reversed(shared.trials) if t.state == TrialState.COMPLETE)
    ((training, validation),) = objective.divisions("validation")
    setting = objective.space.completed(trial.params)
    assert objective.run(setting, training, validation, seed=0).value == trial.value


def test_an_interrupted_study_with_workers_is_intact(tmp_path: Path) -> None:
    options = "--head-only --backbone test_resnet --samples 20000 --repeats 1 --confirm 0"
    wanted = "--n-trials 1000 --workers 2"
    command = [sys.executable, str(STUDIES / "digits.py"), *options.split(), *wanted.split()]
    printed = tmp_path / "stderr"
    with printed.open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stderr=stderr,
            # Its own group, which gets the signal, as from a terminal; and not a shell's
            # background job, which would ignore Ctrl-C.
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "3/1000" not in printed.read_text():
            assert process.poll() is None and time.monotonic() < deadline, printed.read_text()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT
    finally:
        process.kill()
    rest = printed.read_text()
    assert "the same command resumes it" in rest and "Traceback" not in rest
    assert sorted(path.name for path in tmp_path.glob("digits*")) == ["digits.db", "digits.html"]
    trials = optuna.load_study(
        study_name="digits", storage=f"sqlite:///{tmp_path}/digits.db"
    ).trials
    assert sum(t.state == TrialState.COMPLETE for t in trials) >= 3
    assert all(t.state.is_finished() or t.state == TrialState.WAITING for t in trials)


if __name__ == "__main__":
    join_second(sys.argv[1], Path(sys.argv[2]))
