"""Workers that are Ray tasks; what needs Ray is skipped without it."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import signal
import sys
import time
from typing import Any

import optuna
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest
import torch

from cbal_optuna.interruption import Interrupted
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.storage import open_storage
from cbal_optuna.workers import cluster
from cbal_optuna.workers import LOCAL
from cbal_optuna.workers import NoWorkerError
from cbal_optuna.workers import RayWorkers
from cbal_optuna.workers import run_trials_with


class Objective:
    """To workers an objective, which trains nothing."""

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        self.space = SearchSpace()
        self._folder = folder

    def release(self) -> None: ...

    def prepare(self) -> None: ...

    def move(self, device: torch.device, on_step: Callable[[], None]) -> None:
        self._on_step = on_step

    def __call__(self, trial: Trial) -> float:
        trial.set_user_attr("process", os.getpid())
        return float(self.space.suggest(trial)["balance"])


class Killed(Objective):
    """Its process is killed in the middle of trial 2, once."""

    def __call__(self, trial: Trial) -> float:
        mark = self._folder / "killed"
        if trial.number == 2 and not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(trial)


class Endless(Objective):
    """Trains until it is told to end."""

    def __call__(self, trial: Trial) -> float:
        (self._folder / "begun").touch()
        try:
            while True:
                self._on_step()
                time.sleep(0.01)
        except Interrupted:
            trial.set_user_attr("interrupted", True)
            raise


class Broken(Objective):
    def prepare(self) -> None:
        raise OSError("the disk is gone")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    # Nobody is called, and workers need no token.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def run(
    objective: Any, folder: Path, n_trials: int, between: Callable[[], None] = lambda: None
) -> optuna.Study:
    storage = open_storage(f"sqlite:///{folder}/study.db")
    study = optuna.create_study(storage=storage, direction="maximize")
    with RayWorkers(objective, storage, 2, LOCAL) as workers:
        run_trials_with(workers, study, objective, n_trials, between=between)
    return study


@pytest.mark.filterwarnings("ignore")
def test_a_trial_whose_process_is_killed_goes_on_in_another(ray: Any, tmp_path: Path) -> None:
    trials = run(Killed(tmp_path), tmp_path, 5).trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 5
    assert trials[2].user_attrs["process"] != int((tmp_path / "killed").read_text())
    assert os.getpid() not in {t.user_attrs["process"] for t in trials}
    assert [t.value for t in trials] == [t.params["balance"] for t in trials]


@pytest.mark.filterwarnings("ignore")
def test_trials_under_way_end_at_their_next_step(ray: Any, tmp_path: Path) -> None:
    def interrupt() -> None:
        if (tmp_path / "begun").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Endless(tmp_path), tmp_path, 1, interrupt)
    (trial,) = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/study.db").trials
    assert (trial.state, trial.user_attrs) == (TrialState.FAIL, {"interrupted": True})


@pytest.mark.filterwarnings("ignore")
def test_workers_that_cannot_begin_are_given_up(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(NoWorkerError, match=r"died \(OSError: the disk is gone\)"):
        run(Broken(tmp_path), tmp_path, 5)


@pytest.mark.parametrize(
    ("counts", "n_workers", "each"),
    [
        ([4], 1, 4.0),
        ([4], 2, 2.0),
        ([4], 3, 1.0),
        ([4], 8, 0.5),
        ([4, 4], 3, 2.0),
        ([4, 4], 1, 4.0),
        ([8, 2], 2, 4.0),
        ([1, 0], 3, 1 / 3),
    ],
)
def test_what_a_worker_has_is_all_on_one_node(
    counts: list[int], n_workers: int, each: float
) -> None:
    assert cluster._share(counts, n_workers) == each


@pytest.mark.parametrize(
    ("n_workers", "device", "n_gpus", "kind"),
    [
        (1, "auto", 1, "cuda"),
        (4, "cuda", 1, "cuda"),
        (6, "auto", 0.5, "cuda"),
        (4, "cpu", 0, "cpu"),
    ],
)
def test_workers_share_the_gpus_of_the_nodes_that_are_alive(
    n_workers: int, device: str, n_gpus: float, kind: str
) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    place, _, gpus = cluster._place_among(nodes, n_workers, device)
    assert (gpus, place.device.type) == (n_gpus, kind)
    assert place.memory_share == (n_gpus or 1.0)


@pytest.mark.parametrize("resources", [[], [{"memory": 1e9}], [{"CPU": 0.0, "GPU": 1.0}]])
def test_a_cluster_without_a_cpu_is_refused(resources: list[dict[str, float]]) -> None:
    nodes = [{"Alive": True, "Resources": found} for found in resources]
    with pytest.raises(ValueError, match="has no CPU at the moment"):
        cluster._place_among(nodes, 2, "auto")


def test_a_cluster_does_not_share_a_sqlite_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: object())
    objective: Any = Objective(tmp_path)
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(ValueError, match="`ray` is 'head:6379' and `storage` the sqlite file"):
        RayWorkers(objective, storage, 2, "head:6379")


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    objective: Any = Objective(tmp_path)
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(ValueError, match=r'pip install "\.\[ray\]"\.$'):
        RayWorkers(objective, storage, 2, LOCAL)
