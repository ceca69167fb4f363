"""The process that talks to Ray.

Ray ends a process whose cluster has not answered for a minute, blocks it until then, and takes its
signals. So the parent, which has the study, leaves it to a process of its own, and is left with a
pipe whose other end is closed.
"""

from __future__ import annotations

from multiprocessing.connection import Connection
import signal
import sys
import time
from typing import Any
from typing import NamedTuple

from cbal_optuna.workers.places import place_among
from cbal_optuna.workers.process import Task
from cbal_optuna.workers.ray_task import run_task


#: Stands for a cluster of this machine, which ends with the workers.
LOCAL = "local"
# How often Ray runs a task again whose process or node has died.
_MAX_RETRIES = 3
# How long an order of the parent may wait while tasks are under way.
_POLL_SECONDS = 0.1
# How often to look whether there is a node for them.
_LOOK_SECONDS = 5.0


class Prepare(NamedTuple):
    """What workers will evaluate, before any of them is given a trial. Answered by a sentence that
    says what is wrong, or None."""

    objective: bytes
    url: str
    n_workers: int
    device: str


class Give(NamedTuple):
    """A trial for a worker. Answered by :class:`Done`."""

    number: int
    task: Task


class Cancel(NamedTuple):
    """The trial of a worker, if it is under way: at its next training step, or at once."""

    number: int
    force: bool


class Done(NamedTuple):
    """A worker has finished its trial, or else died; ``failure`` says of what."""

    number: int
    failure: str | None


def drive(connection: Connection, address: str) -> None:
    """Connect to a cluster and carry out orders, until the other end of the connection is closed.

    Args:
        connection:
            To the parent: first gives a sentence that says why no cluster answers, or None.
        address:
            Of the cluster.
    """
    _leave_signals_to_the_parent()
    import ray

    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, logging_level="warning", **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        connection.send(" ".join(str(error).split()))
        return
    # Ray has taken it.
    _leave_signals_to_the_parent()
    try:
        connection.send(None)
        _Driver(connection).carry_out_orders()
    except (EOFError, ConnectionError):
        # The parent wants no more, or is dead.
        pass
    finally:
        ray.shutdown()


class _Driver:
    """Hands trials to Ray, and tells the parent what has become of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._under_way: dict[Any, Give] = {}
        self._next_look = 0.0

    def carry_out_orders(self) -> None:
        while True:
            if self._under_way:
                self._tell_what_is_done()
                self._see_to_room()
            if self._under_way and not self._connection.poll():
                continue
            order = self._connection.recv()
            match order:
                case Prepare():
                    self._connection.send(self._prepare(order))
                case Give():
                    self._give(order)
                case Cancel():
                    self._cancel(order)

    def _prepare(self, order: Prepare) -> str | None:
        import ray

        try:
            self._room = place_among(ray.nodes(), order.n_workers, order.device)
            self._objective = ray.put(order.objective)
        except ValueError as error:
            return str(error)
        except ray.exceptions.RayError as error:
            return f"`ray` names a cluster that cannot hold the objective: {_reason(error)}"
        # The object store has it now.
        self._order = order._replace(objective=b"")
        return None

    def _give(self, order: Give) -> None:
        import ray

        place, n_cpus, n_gpus = self._room
        options = {"num_cpus": n_cpus, "num_gpus": n_gpus, "max_retries": _MAX_RETRIES}
        # By its name Ray marks what it prints.
        remote = ray.remote(**options)(run_task).options(name=f"worker {order.number}")
        reference = remote.remote((self._objective,), place, self._order.url, order.task)
        self._under_way[reference] = order

    def _cancel(self, order: Cancel) -> None:
        import ray

        for reference, given in self._under_way.items():
            if given.number == order.number:
                ray.cancel(reference, force=order.force)

    def _tell_what_is_done(self) -> None:
        import ray

        ready, _ = ray.wait(list(self._under_way), timeout=_POLL_SECONDS)
        for reference in ready:
            number, failure = self._under_way.pop(reference).number, None
            try:
                ray.get(reference)
            except ray.exceptions.RayError as error:
                failure = _reason(error)
            self._connection.send(Done(number, failure))

    def _see_to_room(self) -> None:
        """When nodes have died and none is left that is large enough for a worker, share out what
        is left. Ray would wait for another."""
        import ray

        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        nodes, (place, n_cpus, n_gpus) = ray.nodes(), self._room
        if any(_fits(node, n_cpus, n_gpus) for node in nodes):
            return
        try:
            room = place_among(nodes, self._order.n_workers, self._order.device)
        except ValueError:
            # One may come, and so may one with a GPU.
            return
        if room[0].device != place.device:
            return
        print(
            f"No node with {n_cpus:g} CPUs is left; each worker has {room[1]:g} from now on.",
            file=sys.stderr,
        )
        self._room = room
        for reference, given in list(self._under_way.items()):
            del self._under_way[reference]
            ray.cancel(reference)
            self._give(given)


def _fits(node: dict[str, Any], n_cpus: float, n_gpus: float) -> bool:
    found = node["Resources"]
    return node["Alive"] and found.get("CPU", 0) >= n_cpus and found.get("GPU", 0) >= n_gpus


def _leave_signals_to_the_parent() -> None:
    """A terminal sends them to all processes; the parent alone is to act on them. Ray's own
    processes are started with the default."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)


def _reason(error: Exception) -> str:
    """In one line: of a task's own error the last of its traceback."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    is_own = hasattr(error, "cause")
    return (lines[-1] if is_own else lines[0]) if lines else type(error).__name__
