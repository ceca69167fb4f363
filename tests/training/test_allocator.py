from __future__ import annotations

import platform
import subprocess
import sys

import pytest


# Prints how many pages the system had to clear for tensors that are made and freed many times,
# without and with memory that is kept.
SCRIPT = """
import resource

import torch

from cbal_optuna.training.allocator import keep_freed_memory


def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        tensors = [torch.ones(n * 500_000) for n in range(1, 9)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


without = pages()
assert keep_freed_memory()
print(without, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="Other C libraries are left alone.")
def test_memory_that_is_kept_is_not_cleared_again() -> None:
    command = [sys.executable, "-c", SCRIPT]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    without, kept = map(int, output.split())
    assert kept < without / 10
