"""Workers that are Ray tasks; what needs Ray is skipped without it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import multiprocessing.connection
import operator
import os
from pathlib import Path
import signal
import socket
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.storages import get_storage
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest
import torch

from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.storage import open_storage
from cbal_optuna.workers import cluster
from cbal_optuna.workers import connect
from cbal_optuna.workers import LOCAL
from cbal_optuna.workers import NoWorkerError
from cbal_optuna.workers import RayWorkers
from cbal_optuna.workers import run_trials_with
from cbal_optuna.workers.places import _share
from cbal_optuna.workers.places import place_among
from cbal_optuna.workers.ray_driver import _Driver
from cbal_optuna.workers.ray_driver import Give
from cbal_optuna.workers.ray_driver import Prepare


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


class OnLostNode(Objective):
    """Trial 2 waits for the death of its node, once; others for the beginning of trial 2."""

    def __call__(self, trial: Trial) -> float:
        import ray

        node, mark = ray.get_runtime_context().get_node_id(), self._folder / "node"
        trial.set_user_attr("node", node)
        if trial.number == 2 and not mark.exists():
            mark.with_suffix(".new").write_text(node)
            mark.with_suffix(".new").rename(mark)
            while True:
                self._on_step()
                time.sleep(0.01)
        return super().__call__(trial)


class OnGpus(Objective):
    """Where there are none; both trials are under way at once."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        torch.cuda.set_device = lambda device: None  # type: ignore[assignment]
        torch.cuda.set_per_process_memory_fraction = lambda *arguments: None

    def __call__(self, trial: Trial) -> float:
        trial.set_user_attr("devices", os.environ["CUDA_VISIBLE_DEVICES"])
        (self._folder / f"begun {trial.number}").touch()
        while len(list(self._folder.glob("begun *"))) < 2:
            self._on_step()
            time.sleep(0.01)
        return super().__call__(trial)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    # Nobody is called, and workers need no token. Nodes and heads are soon missed, but not while
    # they start, which takes its time on a busy machine.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_health_check_initial_delay_ms", "3000")
    monkeypatch.setenv("RAY_health_check_period_ms", "200")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "15")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def nodes(ray: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster to add nodes to and to take them from."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    # A short path, for sockets; and a folder of its own, else all who call ``ray.init`` find it.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        nodes = cluster_utils.Cluster()
        yield nodes
        nodes.shutdown()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of a storage that several machines share."""
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    server = make_server(get_storage(storage), "127.0.0.1", port)
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


def run(
    objective: Any,
    url: str | Path,
    n_trials: int,
    between: Callable[[], None] = lambda: None,
    address: str = LOCAL,
) -> optuna.Study:
    storage = open_storage(f"sqlite:///{url}/study.db" if isinstance(url, Path) else url)
    study = optuna.create_study(storage=storage, direction="maximize")
    with RayWorkers(objective, storage, 2, connect(address, storage.url)) as workers:
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
@pytest.mark.parametrize("n_cpus", [(1, 1), pytest.param((4, 1), id="then too large for it")])
def test_a_trial_whose_node_is_killed_goes_on_on_another(
    n_cpus: tuple[int, int], nodes: Any, served: str, tmp_path: Path
) -> None:
    for n in (0, *n_cpus):
        nodes.add_node(num_cpus=n)
    mark = tmp_path / "node"

    def kill() -> None:
        for node in nodes.worker_nodes:
            if mark.exists() and node.node_id == mark.read_text():
                nodes.remove_node(node, allow_graceful=False)
                return

    trials = run(OnLostNode(tmp_path), served, 6, kill, nodes.address).trials
    assert len(nodes.worker_nodes) == 1
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 6
    (survivor,) = (node.node_id for node in nodes.worker_nodes)
    assert trials[2].user_attrs["node"] == survivor != mark.read_text()


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_lost_is_one_sentence_and_its_trials_are_kept(
    nodes: Any, served: str, tmp_path: Path
) -> None:
    head, _ = (nodes.add_node(num_cpus=n) for n in (0, 2))
    mark, address = tmp_path / "node", nodes.address

    def kill() -> None:
        if mark.exists() and nodes.head_node is not None:
            nodes.remove_node(head, allow_graceful=False)

    with pytest.raises(NoWorkerError, match=f"the Ray cluster '{address}' is lost .*") as caught:
        run(OnLostNode(tmp_path), served, 6, kill, address)
    assert "\n" not in str(caught.value)
    (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/study.db")
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/study.db").trials
    assert [t.state for t in trials[:2]] == [TrialState.COMPLETE] * 2
    assert trials[2].state == TrialState.RUNNING


@pytest.mark.filterwarnings("ignore")
def test_each_worker_has_a_gpu_of_its_own(nodes: Any, served: str, tmp_path: Path) -> None:
    nodes.add_node(num_cpus=2, num_gpus=2)
    trials = run(OnGpus(tmp_path), served, 2, address=nodes.address).trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 2
    assert {t.user_attrs["devices"] for t in trials} == {"0", "1"}


@pytest.mark.filterwarnings("ignore")
def test_the_connection_of_the_calling_program_is_left_alone(ray: Any, tmp_path: Path) -> None:
    ray.init("local", num_cpus=1, include_dashboard=False)
    try:
        number = ray.put(7)
        (trial,) = run(Objective(tmp_path), tmp_path, 1).trials
        assert trial.state == TrialState.COMPLETE
        assert ray.is_initialized() and ray.get(number) == 7
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_trials_under_way_end_at_their_next_step(ray: Any, tmp_path: Path) -> None:
    interruption = Interruption()
    interruption.defer()

    def terminate() -> None:
        if (tmp_path / "begun").exists():
            os.kill(os.getpid(), signal.SIGTERM)
        interruption.check()

    with pytest.raises(Interrupted, match="SIGTERM"):
        run(Endless(tmp_path), tmp_path, 1, terminate)
    (trial,) = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/study.db").trials
    assert (trial.state, trial.user_attrs) == (TrialState.FAIL, {"interrupted": True})


@pytest.mark.filterwarnings("ignore")
def test_workers_that_cannot_begin_are_given_up(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(NoWorkerError, match=r"died \(OSError: the disk is gone\)"):
        run(Broken(tmp_path), tmp_path, 5)


@pytest.mark.parametrize(
    ("counts", "rooms", "n_workers", "each"),
    [
        ([4], [9], 1, 4.0),
        ([4], [9], 2, 2.0),
        ([4], [9], 3, 1.0),
        ([4], [9], 8, 0.5),
        ([4, 4], [9, 9], 3, 2.0),
        ([4, 4], [9, 9], 1, 4.0),
        ([8, 2], [9, 9], 2, 4.0),
        ([1], [9], 3, 1 / 3),
        ([16, 4], [1, 3], 4, 1.0),
        ([4], [8], 8, 0.5),
    ],
)
def test_what_a_worker_has_is_all_on_one_node(
    counts: list[int], rooms: list[int], n_workers: int, each: float
) -> None:
    assert _share(counts, rooms, n_workers) == each


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
    place, _, gpus = place_among(nodes, n_workers, device)
    assert (gpus, place.device.type) == (n_gpus, kind)
    assert place.memory_share == (n_gpus or 1.0)


def test_workers_that_need_a_gpu_have_the_cpus_beside_them() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 64.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
    ]
    assert place_among(nodes, 2, "auto")[1:] == (4, 1)
    assert place_among(nodes, 2, "cpu")[1:] == (32, 0)


@pytest.mark.parametrize(
    ("left", "n_cpus"),
    [
        ([{"CPU": 8.0, "GPU": 1.0}], 8),
        ([{"CPU": 3.0, "GPU": 1.0}, {"CPU": 64.0}], 3),
        ([{"CPU": 64.0}], 8),
        ([{"GPU": 1.0}], 8),
        ([], 8),
    ],
)
def test_workers_wait_for_a_node_if_those_that_are_left_cannot_do(
    left: list[dict[str, float]], n_cpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"Alive": True, "Resources": found} for found in left]
    given, cancelled = list[Give](), list[str]()
    ray = SimpleNamespace(nodes=lambda: nodes, cancel=cancelled.append)
    monkeypatch.setitem(sys.modules, "ray", ray)
    before = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}}]
    connection: Any = None
    driver = _Driver(connection)
    driver._order = Prepare(b"", "", 1, "auto")
    driver._room = place_among(before, 1, "auto")
    task: Any = None
    driver._under_way = {"task": Give(0, task)}
    monkeypatch.setattr(driver, "_give", given.append)
    driver._see_to_room()
    assert driver._room[1:] == (n_cpus, 1)
    assert cancelled == (["task"] if n_cpus == 3 else [])
    assert given == ([Give(0, task)] if n_cpus == 3 else [])


@pytest.mark.parametrize("resources", [[], [{"memory": 1e9}], [{"CPU": 0.0, "GPU": 1.0}]])
def test_a_cluster_without_a_cpu_is_refused(resources: list[dict[str, float]]) -> None:
    nodes = [{"Alive": True, "Resources": found} for found in resources]
    with pytest.raises(ValueError, match="has no CPU at the moment"):
        place_among(nodes, 2, "auto")


def test_a_cluster_does_not_share_a_sqlite_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="`ray` is 'head:6379' and `storage` the sqlite file"):
        connect("head:6379", "sqlite:///study.db")


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "auto", "a:99999"])
def test_an_address_that_refuses_is_said_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: object())
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    address = address.format(port)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(ValueError, match=f"`ray` is '{address}', where no cluster answers: "):
        connect(address, "grpc://head:13000")


def test_a_process_that_dies_at_once_is_one_sentence_and_leaves_no_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[Any] = []
    pipe = multiprocessing.connection.Pipe

    def spy(duplex: bool) -> Any:
        ends.extend(pipe(duplex))
        return tuple(ends)

    monkeypatch.setattr(multiprocessing.connection, "Pipe", spy)
    # Takes what it is given, and is done.
    monkeypatch.setattr(cluster, "drive", operator.is_)
    with pytest.raises(NoWorkerError, match="the Ray cluster 'local' is lost"):
        cluster.Cluster(LOCAL, "sqlite:///study.db")
    assert [end.closed for end in ends] == [True, True]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "\.\[ray\]"\.$'):
        connect(LOCAL, "sqlite:///study.db")
