"""The memory a loss takes at its peak, beyond the embeddings and labels."""

from __future__ import annotations

import time

from loss_peers import Batch
from loss_peers import Contender
from loss_peers import CONTENDERS
from loss_peers import random_batch
from loss_peers import Step
from peak_memory import in_own_process
from peak_memory import kilobytes
from peak_memory import measured
from peak_memory import Pass
import torch


def first_pass(contender: Contender, n: int, d: int, dtype: torch.dtype, device: str) -> Pass:
    """A forward and backward pass after a warm-up, on the CPU in a process of its own.

    Raises:
        Killed: If the system takes the memory back.
        torch.OutOfMemoryError: If a GPU has none left.
    """
    if device == "cuda":
        torch.cuda.empty_cache()
        return _pass_on_gpu(contender.step, random_batch(n, d, dtype, device))
    place = CONTENDERS.index(contender)
    preload = ["lightly.loss", "pytorch_metric_learning.losses"]
    return in_own_process(_pass_on_cpu, place, n, d, dtype, preload=preload)


def available_mb(device: str) -> float:
    if device == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0] / 1e6
    return kilobytes("/proc/meminfo", "MemAvailable") / 1e3


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


def _pass_on_cpu(place: int, n: int, d: int, dtype: torch.dtype) -> Pass:
    step = CONTENDERS[place].step
    for _ in range(3):
        step(random_batch(64, d, dtype, "cpu"))
    batch = random_batch(n, d, dtype, "cpu")
    return measured(lambda: step(batch))
