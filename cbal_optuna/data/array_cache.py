"""Arrays that are expensive to make, kept in files: made once, checked at every use, safe to make
twice at once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import errno
import math
import os
from pathlib import Path
import shutil
import zlib

import numpy as np

from cbal_optuna.replaced_files import part_of


# What says where caches are kept.
_SETTING = "`cache_directory` (--cache-dir) or $CBAL_CACHE"


def default_cache_directory() -> Path:
    """``$CBAL_CACHE``, else ``cbal_optuna`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        ValueError: Neither is set, and the user has no home directory.
    """
    if own := os.environ.get("CBAL_CACHE"):
        return Path(own)
    if for_all := os.environ.get("XDG_CACHE_HOME"):
        return Path(for_all) / "cbal_optuna"
    try:
        return Path.home() / ".cache" / "cbal_optuna"
    except RuntimeError as error:
        raise ValueError(
            "$CBAL_CACHE is not set, and this user has no home directory; it should name a folder "
            "for caches."
        ) from error


def cached_array(
    directory: Path,
    key: str,
    shape: tuple[int, ...],
    dtype: np.dtype | type,
    fill: Callable[[np.ndarray], None],
) -> np.ndarray:
    """The array of a key: read from its file, or made and written there first.

    The file's name carries a checksum of its contents, so that one atomic rename publishes both. A
    file that is damaged, or has another shape or type, is made anew. Processes that make the same
    array at once write files of their own; the last rename wins.

    Args:
        directory:
            Where the files are; made if need be.
        key:
            What tells this array from others: letters, digits and hyphens.
        shape, dtype:
            Of the array.
        fill:
            Writes the contents into the array it is given.

    Returns:
        A read-only array, mapped from the file.

    Raises:
        OSError: The directory or the file cannot be written, or the disk has no room for it.
    """
    found = sorted(directory.glob(f"{key}.*.npy"))
    for path in found:
        array = _verified(path)
        if array is not None and array.shape == shape and array.dtype == dtype:
            return array
    _make(directory)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with _room_for(size, directory), part_of(directory / key) as part:
        writable = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
        _allocate(part)
        fill(writable)
        writable.flush()
        path = directory / f"{key}.{_checksum(writable):08x}.npy"
        del writable
        part.replace(path)
    for unfit in found:
        # One of this name was replaced, perhaps by another process, which now reads it.
        if unfit != path:
            unfit.unlink(missing_ok=True)
    published: np.ndarray = np.load(path, mmap_mode="r")
    return published


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the folder for caches cannot be made ({error.strerror}); {_SETTING} should "
            "name another",
            str(directory),
        ) from error


@contextmanager
def _room_for(size: int, directory: Path) -> Iterator[None]:
    """Says what to do about a disk that has none."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"a cache file of {size / 1e6:.0f} MB has no room; {_SETTING} should name a "
            "folder on a disk that has",
            str(directory),
        ) from error


def _allocate(path: Path) -> None:
    """Take the room on the disk now: were it full, writing to the map would kill the process."""
    size = path.stat().st_size
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _verified(path: Path) -> np.ndarray | None:
    """The array of a file, or :obj:`None` if it is not what was written."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    # numpy raises OSError, ValueError, EOFError, TokenError and more on damaged files.
    except Exception:
        return None
    return array if path.name.split(".")[-2] == f"{_checksum(array):08x}" else None


def _checksum(array: np.ndarray) -> int:
    checksum = 0
    rows = max(1, (1 << 24) // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        checksum = zlib.crc32(np.ascontiguousarray(array[start : start + rows]).data, checksum)
    return checksum
