"""Which arguments are numbers, numpy's among them, whatever their annotations promise."""

from __future__ import annotations

from numbers import Integral
from numbers import Real


def is_whole(value: object) -> bool:
    return isinstance(value, Integral)


def is_number(value: object) -> bool:
    return isinstance(value, Real)
