"""Variables of MATLAB files that hold lists of texts and numbers.

SciPy's reader is not meant for files that may be damaged, some of which crash the process. This
one knows no more of the format (MAT-File Level 5, as MathWorks describes it) than such lists need.
"""

from __future__ import annotations

import math
from pathlib import Path
import struct
from typing import TypeAlias
import zlib

import numpy as np


# A structure is a list with a dictionary for each of its elements.
Value: TypeAlias = "str | np.ndarray | list[Value] | list[dict[str, Value]]"

# Of the file, and of a variable when it is decompressed: twice what Cars-196 has. What is made of
# it may take thirty times as much, if it is a structure of nothing.
_MAX_BYTES = 2**24
# Of all names of a structure's fields, and of the dimensions of an array.
_MAX_CHARACTERS, _MAX_DIMENSIONS = 2**14, 32
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# Types of data.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_NUMBERS |= {12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_NOTHING = np.empty(0)
# Classes of arrays; those from the last on are of numbers.
_CELL, _STRUCT, _CHAR, _FIRST_NUMERIC = 1, 2, 4, 6


def matlab_variable(path: Path, name: str) -> Value | None:
    """A variable of a MATLAB file; :obj:`None` if the file does not hold it.

    Raises:
        ValueError: The file is damaged, of another version or too large, or the variable is of
            another kind.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None or content[124:126] not in (b"\0\1", b"\1\0"):
        raise ValueError("it is not of version 5")
    if len(content) > _MAX_BYTES:
        raise ValueError("it is too large")
    try:
        return _variable(_Elements(memoryview(content)[_HEADER:], order), name)
    except (zlib.error, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is damaged: {error}") from error


def _variable(elements: _Elements, name: str) -> Value | None:
    while not elements.are_over:
        kind, data = elements.next()
        if kind == _COMPRESSED:
            kind, data = _Elements(_decompressed(data), elements.order).next()
        if kind == _MATRIX:
            array = _Array(_Elements(data, elements.order))
            if array.name == name:
                return array.value()
    return None


class _Elements:
    """The parts of a file, or of an array, one after the other."""

    def __init__(self, data: memoryview, order: str) -> None:
        self._data = data
        self._at = 0
        self.order = order

    @property
    def are_over(self) -> bool:
        return self._at >= len(self._data)

    def next(self) -> tuple[int, memoryview]:
        """Its type and its bytes."""
        try:
            kind, size = struct.unpack_from(self.order + "II", self._data, self._at)
        except struct.error:
            raise ValueError("it ends too early") from None
        begin = self._at + 8
        # A few bytes may be in the place of their number.
        if kind >> 16:
            kind, size, begin = kind & 0xFFFF, kind >> 16, self._at + 4
        end = begin + size
        if end > len(self._data) or (begin == self._at + 4 and size > 4):
            raise ValueError("it ends too early")
        # Compressed ones are not padded.
        self._at = end if kind == _COMPRESSED else end + (self._at - end) % 8
        return kind, self._data[begin:end]

    def numbers(self) -> np.ndarray:
        kind, data = self.next()
        if kind not in _NUMBERS:
            raise ValueError(f"data of type {kind} are no numbers")
        return np.frombuffer(data, self.order + _NUMBERS[kind])

    def text(self) -> str:
        kind, data = self.next()
        if kind not in _TEXTS:
            raise ValueError(f"data of type {kind} are no text")
        encoding = _TEXTS[kind]
        if encoding in ("utf-16", "utf-32"):
            encoding += {"<": "-le", ">": "-be"}[self.order]
        return bytes(data).decode(encoding)

    def array(self) -> Value:
        kind, data = self.next()
        if kind != _MATRIX:
            raise ValueError(f"data of type {kind} are no array")
        return _Array(_Elements(data, self.order)).value() if data else _NOTHING


class _Array:
    def __init__(self, elements: _Elements) -> None:
        self._elements = elements
        self._kind = int(elements.numbers()[0]) & 0xFF
        lengths = elements.numbers()
        if lengths.size > _MAX_DIMENSIONS:
            raise ValueError(f"an array has {lengths.size} dimensions")
        self._n = math.prod(map(int, lengths))
        self.name = elements.text()

    def value(self) -> Value:
        if self._kind == _CHAR:
            return self._elements.text()
        if self._kind == _CELL:
            return [self._elements.array() for _ in range(self._n)]
        if self._kind == _STRUCT:
            return self._structure()
        if self._kind >= _FIRST_NUMERIC:
            return self._elements.numbers()
        raise ValueError(f"arrays of class {self._kind} are not read")

    def _structure(self) -> list[dict[str, Value]]:
        length = int(self._elements.numbers()[0])
        names = self._elements.text()
        if length < 1 or not 0 < len(names) <= _MAX_CHARACTERS:
            raise ValueError("a structure has no fields, or too many")
        fields = [names[i : i + length].split("\0")[0] for i in range(0, len(names), length)]
        return [{name: self._elements.array() for name in fields} for _ in range(self._n)]


def _decompressed(data: memoryview) -> memoryview:
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(data, _MAX_BYTES)
    if not decompressor.eof:
        raise ValueError("a compressed variable is too large or ends too early")
    return memoryview(content)
