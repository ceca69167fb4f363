"""Time and peak memory of a step in a process of its own, on Linux."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
import time
from typing import Any
from typing import NamedTuple


class Pass(NamedTuple):
    """What a step takes, the memory beyond what was taken before it."""

    seconds: float
    peak_mb: float


class Killed(Exception):
    """The process did not survive."""


def in_own_process(task: Callable[..., Pass], *args: Any, preload: Sequence[str]) -> Pass:
    """What a task returns, which calls :func:`measured`.

    The process is a fork of one that has imported the packages in ``preload``, and has started no
    threads.

    Raises:
        Killed: If the system takes the memory back.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, task, args))
    process.start()
    sender.close()
    try:
        taken: Pass = receiver.recv()
    except EOFError as error:
        raise Killed from error
    finally:
        process.join()
    return taken


def measured(step: Callable[[], object]) -> Pass:
    """The peak is good to about 1 MB; what malloc keeps of freed blocks is in it."""
    # 5 sets the peak (VmHWM) to what is resident now: `man 5 proc`.
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("/proc/self/status", "VmRSS")
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    peak = kilobytes("/proc/self/status", "VmHWM")
    # MB of 10^6 bytes, from units of 1,024.
    return Pass(seconds, (peak - before) * 1.024 / 1e3)


def kilobytes(path: str, name: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _child(sender: Connection, task: Callable[..., Pass], args: Sequence[Any]) -> None:
    sender.send(task(*args))
