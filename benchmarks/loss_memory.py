"""The memory a loss takes at its peak, beyond the embeddings and labels."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
import time
from typing import NamedTuple

from loss_peers import Batch
from loss_peers import Contender
from loss_peers import CONTENDERS
from loss_peers import random_batch
from loss_peers import Step
import torch


class Pass(NamedTuple):
    """What forward and backward take."""

    seconds: float
    peak_mb: float


class Killed(Exception):
    """The process did not survive the pass."""


def first_pass(contender: Contender, n: int, d: int, dtype: torch.dtype, device: str) -> Pass:
    """A pass after a warm-up.

    On the CPU in a process of its own, whose peak is read to about 1 MB, on Linux. What malloc
    keeps of freed blocks is in it. The process is a fork of one that has imported all packages,
    and has started no threads.

    Raises:
        Killed: If the system takes the memory back.
        torch.OutOfMemoryError: If a GPU has none left.
    """
    if device == "cuda":
        torch.cuda.empty_cache()
        return _pass_on_gpu(contender.step, random_batch(n, d, dtype, device))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightly.loss", "pytorch_metric_learning.losses"])
    receiver, sender = context.Pipe(duplex=False)
    place = CONTENDERS.index(contender)
    process = context.Process(target=_child, args=(sender, place, n, d, dtype))
    process.start()
    sender.close()
    try:
        taken: Pass = receiver.recv()
    except EOFError as error:
        raise Killed from error
    finally:
        process.join()
    return taken


def available_mb(device: str) -> float:
    if device == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0] / 1e6
    return _kilobytes("/proc/meminfo", "MemAvailable") / 1e3


def _pass_on_gpu(step: Step, batch: Batch) -> Pass:
    step(batch)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.synchronize()
    start = time.perf_counter()
    step(batch)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return Pass(seconds, (torch.cuda.max_memory_allocated() - before) / 1e6)


def _child(sender: Connection, place: int, n: int, d: int, dtype: torch.dtype) -> None:
    step = CONTENDERS[place].step
    for _ in range(3):
        step(random_batch(64, d, dtype, "cpu"))
    batch = random_batch(n, d, dtype, "cpu")
    # 5 sets the peak (VmHWM) to what is resident now: `man 5 proc`.
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes("/proc/self/status", "VmRSS")
    start = time.perf_counter()
    step(batch)
    seconds = time.perf_counter() - start
    peak = _kilobytes("/proc/self/status", "VmHWM")
    # MB of 10^6 bytes, from units of 1,024.
    sender.send(Pass(seconds, (peak - before) * 1.024 / 1e3))


def _kilobytes(path: str, name: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
