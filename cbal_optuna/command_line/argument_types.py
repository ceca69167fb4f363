"""Types of command-line arguments, each with its error in one clause."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path
import sys
from typing import Any
from typing import TypeVar

from cbal_optuna.plain_files import plain_value
from cbal_optuna.training import AUTO
from cbal_optuna.training import WHOLE


LARGEST_SEED = 2**31 - 1
_LARGEST_COUNT = 2**31 - 1
_LONGEST_FILE_NAME = 255

Number = TypeVar("Number", int, float)


def positive(text: str) -> int:
    return _count(text, 1)


def natural(text: str) -> int:
    return _count(text, 0)


def micro_batch(text: str) -> int | str:
    if text in (AUTO, WHOLE):
        return text
    allowed = f"{AUTO!r}, {WHOLE!r} or a whole number of at least 1"
    return _number(int, text, 1, allowed, _LARGEST_COUNT)


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


def path(text: str) -> Path:
    """That of a file or folder, which need not exist."""
    found = Path(place(text))
    if any(len(os.fsencode(part)) > _LONGEST_FILE_NAME for part in found.parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} has a name of more than {_LONGEST_FILE_NAME} bytes"
        )
    try:
        found.stat()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise argparse.ArgumentTypeError(
                f"{text!r} cannot be a path: {error.strerror}"
            ) from error
    return found


def place(text: str) -> str:
    """A path or URL that the system can take."""
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise argparse.ArgumentTypeError(f"{text!r} has characters that no path or URL has")
    return text


def positive_float(text: str) -> float:
    return _number(float, text, sys.float_info.min, "a positive number")


def natural_float(text: str) -> float:
    return _number(float, text, 0.0, "a number of at least 0")


def assignment(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as in a study file."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, plain_value(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE: {error}") from error


def _count(text: str, least: int) -> int:
    value = _number(int, text, least, f"a whole number of at least {least}")
    if value > _LARGEST_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_LARGEST_COUNT}")
    return value


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
