from __future__ import annotations

from collections.abc import Callable
import errno
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

import cbal_optuna
from cbal_optuna.data import cached_array
from cbal_optuna.data import default_cache_directory


SHAPE = (6, 4)
CONTENTS = np.arange(24, dtype=np.float32).reshape(SHAPE)


def fill(array: np.ndarray) -> None:
    array[:] = CONTENTS


def never(array: np.ndarray) -> None:
    raise AssertionError("made again")


def cached(directory: Path, fill: Callable[[np.ndarray], None], key: str = "key") -> np.ndarray:
    return cached_array(directory, key, SHAPE, np.float32, fill)


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_an_array_is_made_once(tmp_path: Path) -> None:
    made = cached(tmp_path / "new" / "folder", fill)
    read = cached(tmp_path / "new" / "folder", never)
    np.testing.assert_array_equal(made, CONTENTS)
    np.testing.assert_array_equal(read, CONTENTS)


def test_the_array_is_mapped_and_read_only(tmp_path: Path) -> None:
    for array in (cached(tmp_path, fill), cached(tmp_path, never)):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_key_that_begins_like_another_is_another(tmp_path: Path) -> None:
    cached(tmp_path, fill, "features-1")
    assert (cached(tmp_path, lambda array: array.fill(7), "features-12") == 7).all()
    np.testing.assert_array_equal(cached(tmp_path, never, "features-1"), CONTENTS)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda contents: b"",
    "cut in the header": lambda contents: contents[:40],
    "cut in the data": lambda contents: contents[:-5],
    "header overwritten": lambda contents: contents[:10] + b"(" * 118 + contents[128:],
    "zeros": lambda contents: bytes(len(contents)),
    "text": lambda contents: b"not an array",
    "zip archive": lambda contents: b"PK\x03\x04" + contents,
    "one bit of the data": lambda contents: contents[:-1] + bytes([contents[-1] ^ 1]),
    "another array": lambda contents: contents.replace(b"(6, 4)", b"(4, 6)"),
    "another type": lambda contents: contents.replace(b"<f4", b"<i4"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    cached(tmp_path, fill)
    path = only_file(tmp_path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    np.testing.assert_array_equal(cached(tmp_path, fill), CONTENTS)
    np.testing.assert_array_equal(cached(tmp_path, never), CONTENTS)
    assert only_file(tmp_path) == path


@pytest.mark.parametrize("byte", range(128))
def test_no_damage_to_the_header_is_an_error(tmp_path: Path, byte: int) -> None:
    cached(tmp_path, fill)
    path = only_file(tmp_path)
    contents = bytearray(path.read_bytes())
    for value in b"\0('[{\xff":
        contents[byte] = value
        path.write_bytes(contents)
        np.testing.assert_array_equal(cached(tmp_path, fill), CONTENTS)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_damage_anywhere_in_a_large_file_is_seen(tmp_path: Path, row: int) -> None:
    shape = (3, 12 * 2**20)  # the checksum goes over it in three steps
    cached_array(tmp_path, "key", shape, np.uint8, lambda array: array.fill(1))
    with only_file(tmp_path).open("r+b") as file:
        file.seek(-1 - row * shape[1], os.SEEK_END)
        file.write(b"\2")
    anew = cached_array(tmp_path, "key", shape, np.uint8, lambda array: array.fill(3))
    assert (anew == 3).all()


@pytest.mark.parametrize(("shape", "dtype"), [((4, 6), np.float32), (SHAPE, np.float64)])
def test_an_array_of_another_kind_under_the_key_is_replaced(
    tmp_path: Path, shape: tuple[int, int], dtype: type
) -> None:
    cached_array(tmp_path, "key", shape, dtype, lambda array: array.fill(1))
    np.testing.assert_array_equal(cached(tmp_path, fill), CONTENTS)
    only_file(tmp_path)


def test_a_damaged_file_stays_until_its_replacement_is_there(tmp_path: Path) -> None:
    """Another process may have replaced it in the meantime, and be about to read it."""
    cached(tmp_path, fill)
    path = only_file(tmp_path)
    path.write_bytes(b"")

    def look(array: np.ndarray) -> None:
        assert path.exists()
        fill(array)

    np.testing.assert_array_equal(cached(tmp_path, look), CONTENTS)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_making_leaves_nothing_behind(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupted(array: np.ndarray) -> None:
        array[0] = 1
        raise error

    with pytest.raises(error):
        cached(tmp_path, interrupted)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=f"CBAL_CACHE.*{tmp_path}") as raised:
        cached_array(tmp_path, "key", (3 * 10**6,), np.uint8, never)
    assert raised.value.errno == errno.ENOSPC
    assert "3 MB" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_where_room_cannot_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    cached(tmp_path / "roomy", fill)
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="CBAL_CACHE"):
        cached(tmp_path / "full", never)


def test_what_a_killed_process_left_is_not_taken_for_the_array(tmp_path: Path) -> None:
    (tmp_path / "key.0123.part").write_bytes(b"half")
    np.testing.assert_array_equal(cached(tmp_path, fill), CONTENTS)


def test_two_threads_may_make_it_at_once(tmp_path: Path) -> None:
    both_are_filling = threading.Barrier(2, timeout=30)
    arrays: list[np.ndarray] = []

    def slow(array: np.ndarray) -> None:
        both_are_filling.wait()
        fill(array)

    threads = [
        threading.Thread(target=lambda: arrays.append(cached(tmp_path, slow))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(arrays) == 2
    for array in arrays:
        np.testing.assert_array_equal(array, CONTENTS)
    only_file(tmp_path)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from cbal_optuna.data.array_cache import cached_array

def fill(array):
    print("filling", flush=True)
    sys.stdin.readline()
    array[:] = np.arange(24).reshape(6, 4)

print(cached_array(Path(sys.argv[1]), "key", (6, 4), np.float32, fill).sum(), flush=True)
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_may_make_it_at_once(tmp_path: Path, damaged: bool) -> None:
    if damaged:
        cached(tmp_path, fill)
        only_file(tmp_path).write_bytes(b"")
    package = Path(cbal_optuna.__file__).parents[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(package)},
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "filling\n"
    outputs = [process.communicate("go\n")[0] for process in processes]
    assert outputs == ["276.0\n", "276.0\n"]
    np.testing.assert_array_equal(cached(tmp_path, never), CONTENTS)
    only_file(tmp_path)


def test_others_may_read_the_file_as_the_umask_says(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        cached(tmp_path, fill)
    finally:
        os.umask(umask)
    assert only_file(tmp_path).stat().st_mode & 0o777 == 0o644


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be made \(.*`cache_directory` .* another: .*file"):
        cached(tmp_path / "file" / "folder", fill)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CBAL_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/cbal_optuna")),
        ({"CBAL_CACHE": "", "XDG_CACHE_HOME": "/b"}, Path("/b/cbal_optuna")),
        ({"XDG_CACHE_HOME": ""}, Path.home() / ".cache/cbal_optuna"),
        ({}, Path.home() / ".cache/cbal_optuna"),
    ],
)
def test_the_default_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Path
) -> None:
    for name in ("CBAL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_cache_directory() == expected
