"""Types of command-line arguments, each with its error in one clause."""

from __future__ import annotations

import argparse
import sys
from typing import TypeVar

from cbal_optuna.training import AUTO
from cbal_optuna.training import WHOLE


LARGEST_SEED = 2**31 - 1

Number = TypeVar("Number", int, float)


def positive(text: str) -> int:
    return _number(int, text, 1, "a whole number of at least 1")


def natural(text: str) -> int:
    return _number(int, text, 0, "a whole number of at least 0")


def micro_batch(text: str) -> int | str:
    if text in (AUTO, WHOLE):
        return text
    return _number(int, text, 1, f"{AUTO!r}, {WHOLE!r} or a whole number of at least 1")


def seed(text: str) -> int:
    return _number(int, text, 0, f"a whole number from 0 to {LARGEST_SEED}", LARGEST_SEED)


def port(text: str) -> int:
    return _number(int, text, 0, "a whole number from 0 to 65535", 65535)


def study_name(text: str) -> str:
    """A name that can also be that of a file."""
    if not text.strip(" .") or not text.isprintable() or "/" in text or len(text) > 200:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name of 1 to 200 printable characters without '/'"
        )
    return text


def positive_float(text: str) -> float:
    return _number(float, text, sys.float_info.min, "a positive number")


def _number(
    kind: type[Number], text: str, low: float, allowed: str, high: float = sys.float_info.max
) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
    return value
