"""Where the time of a training step goes, by groups of torch's operations."""

from __future__ import annotations

from collections.abc import Callable
import time

from torch.profiler import profile
from torch.profiler import ProfilerActivity


# By what the names of torch's operations begin with; what is none of these is "other".
OPERATIONS = {
    "convolution": ("aten::mkldnn_convolution", "aten::convolution", "aten::cudnn_convolution"),
    "batch norm": ("aten::native_batch_norm", "aten::cudnn_batch_norm"),
    "matrix product": ("aten::mm", "aten::addmm", "aten::bmm"),
    "resampling": ("aten::grid_sampler", "aten::affine_grid"),
    "random numbers": ("aten::bernoulli", "aten::uniform", "aten::random", "aten::normal"),
    "optimizer": ("aten::_fused_adamw", "Optimizer."),
    "copies": ("aten::copy", "aten::index", "aten::cat", "aten::clone", "aten::fill"),
}


def profiled(steps: Callable[[int], None], n: int) -> dict[str, float]:
    """Milliseconds of a step under torch's profiler, by groups of operations, for a function that
    does so many steps."""
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        steps(n)
        total = time.perf_counter() - start
    groups = dict.fromkeys((*OPERATIONS, "other operations", "Python"), 0.0)
    for event in profiler.key_averages():
        names = (group for group, begin in OPERATIONS.items() if event.key.startswith(begin))
        groups[next(names, "other operations")] += event.self_cpu_time_total / 1e6
    groups["Python"] = total - sum(groups.values())
    return {name: round(1e3 * seconds / n, 3) for name, seconds in groups.items()}
