"""Files as SciPy and MATLAB write them, and damaged ones."""

from __future__ import annotations

from contextlib import suppress
import io
from pathlib import Path
import struct
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import scipy.io
from scipy.io import savemat

from cbal_optuna.data import matlab_file
from cbal_optuna.data.matlab_file import matlab_variable


MANY = settings.get_profile("any input")
# Written by MATLAB 6 on a machine of the other byte order, and by later ones; not in each SciPy.
OF_MATLAB = Path(scipy.io.__file__).parent / "matlab/tests/data"


def written(**options: Any) -> bytes:
    rows = np.empty((1, 2), dtype=[("class", "O"), ("fname", "O")])
    rows[0] = [(np.uint8(1), "00001.jpg"), (np.float64(196), "\u00e9.jpg")]
    names = np.empty((1, 3), dtype=object)
    names[0] = ["BMW", "", "Audi"]
    file = io.BytesIO()
    savemat(file, {"other": np.eye(20), "annotations": rows, "class_names": names}, **options)
    return file.getvalue()


@pytest.mark.parametrize("do_compression", [False, True])
def test_lists_are_read(tmp_path: Path, do_compression: bool) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(written(do_compression=do_compression))
    first, empty, last = matlab_variable(path, "class_names") or ()
    assert (first, len(empty), last) == ("BMW", 0, "Audi")
    assert matlab_variable(path, "annotations") == [
        {"class": (1,), "fname": "00001.jpg"},
        {"class": (196.0,), "fname": "\u00e9.jpg"},
    ]
    assert matlab_variable(path, "others") is None


@pytest.mark.skipif(not OF_MATLAB.is_dir(), reason="SciPy was installed without its test files")
@pytest.mark.parametrize("version", ["6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86"])
def test_lists_of_matlab_are_read(version: str) -> None:
    structures = matlab_variable(OF_MATLAB / f"teststructarr_{version}.mat", "teststructarr")
    assert structures == [{"one": (1,), "two": (2,)}, {"one": "number 1", "two": "number 2"}]
    cells = matlab_variable(OF_MATLAB / f"testcellnest_{version}.mat", "testcellnest")
    assert cells == [(1,), [(2,), (3,), [(4,), (5,)]]]


@pytest.mark.parametrize("do_compression", [False, True])
def test_what_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, do_compression: bool
) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"a": np.zeros(100_000)}, do_compression=do_compression)
    monkeypatch.setattr(matlab_file, "_MAX_BYTES", 10_000)
    with pytest.raises(ValueError, match="too large"):
        matlab_variable(path, "a")


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(kind: int, lengths: list[int], *content: bytes) -> bytes:
    """Of the name ``a``."""
    head = element(6, struct.pack("<II", kind, 0))
    dimensions = element(5, struct.pack(f"<{len(lengths)}i", *lengths))
    return element(14, head + dimensions + element(1, b"a") + b"".join(content))


N = 2**14
NOTHING = element(14, b"")
TWO, ONE = (element(5, struct.pack("<i", length)) for length in (2, 1))
NAMES = "".join(map(chr, range(0x4E00, 0x4E00 + 1000))).encode("utf-16-le")


@pytest.mark.parametrize(
    ("content", "times"),
    [
        pytest.param(array(9, [N], element(2, bytes(N))), 2, id="bytes"),
        pytest.param(array(11, [N], element(4, b"\7\7" * N)), 2, id="numbers"),
        pytest.param(array(9, [2**31 - 1] * N, element(2, b"\7")), 2, id="dimensions"),
        pytest.param(array(1, [N], NOTHING * N), 4, id="cells"),
        pytest.param(array(1, [N], array(9, [1], element(2, b"\7")) * N), 8, id="scalars"),
        pytest.param(array(2, [N], ONE, element(1, b"x"), NOTHING * N), 30, id="structures"),
        pytest.param(array(2, [0], ONE, element(17, NAMES * 50)), 5, id="names"),
        pytest.param(array(2, [1], TWO, element(1, NAMES), NOTHING * 1000), 30, id="fields"),
    ],
)
def test_what_is_made_of_a_file_takes_so_many_times_its_memory_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, times: int
) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(bytes(124) + b"\0\1IM" + content)
    # A file is read into as much memory as the largest one needs.
    monkeypatch.setattr(matlab_file, "_MAX_BYTES", len(content) + 128)
    tracemalloc.start()
    try:
        with suppress(ValueError):
            matlab_variable(path, "a")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < times * len(content)


@MANY
@given(
    do_compression=st.booleans(),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), max_size=3),
    length=st.floats(0, 1),
    is_cut=st.booleans(),
)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    do_compression: bool,
    changes: list[tuple[float, bytes]],
    length: float,
    is_cut: bool,
) -> None:
    content = bytearray(written(do_compression=do_compression))
    for place, put in changes:
        start = int(place * len(content))
        content[start : start + len(put)] = put
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    path.write_bytes(content[: int(length * len(content))] if is_cut else content)
    try:
        value = matlab_variable(path, "annotations")
    except ValueError:
        return
    assert value is None or len(value) < len(content)
