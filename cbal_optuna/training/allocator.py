"""Memory of tensors on a CPU, which the C library is not to give back between steps."""

from __future__ import annotations

import ctypes
from functools import cache
import sys


# Of glibc's ``mallopt``.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
# The largest that glibc takes: larger blocks are always mapped and given back one by one.
_MAX_MMAP_THRESHOLD = 32 * 2**20
_KEPT = 2**30


@cache
def keep_freed_memory() -> bool:
    """Have the C library keep up to a GiB of freed memory of this process for its next use.

    By default glibc maps large blocks one by one and gives them back when they are freed; in
    training, that is each activation in each step, whose pages the system then clears again. Other
    C libraries are left as they are.

    Returns:
        Whether the C library will.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # musl has no such function.
    return mallopt is not None and all(
        mallopt(option, size)
        for option, size in (
            (_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD),
            (_TRIM_THRESHOLD, _KEPT),
            (_TOP_PAD, _MAX_MMAP_THRESHOLD),
        )
    )
