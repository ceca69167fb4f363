"""How arguments are told that are wrong, or that have names of their own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import re
from typing import Any
from typing import NoReturn

from cbal_optuna.passwords import without_passwords
from cbal_optuna.plain_text import printable


# Of the operating system, whose words follow.
_ERROR_NUMBER = re.compile(r"\[Errno \d+\] ")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence on one line, without the usage, and exits with status
    2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        if message is not None:
            # What was typed is repeated: names from data, and URLs that are in the wrong place.
            message = printable(without_passwords(_ERROR_NUMBER.sub("", message)))
        super().exit(status, message)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # argparse drops it and then misses the value.
        if arg_strings == ["--"] and action.option_strings:
            raise argparse.ArgumentError(action, "'--' is not a value")
        return super()._get_values(action, arg_strings)


class RaisingParser(Parser):
    """The same for callers in Python: it raises a ValueError."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(" ".join(message.split()))


class Assignments(argparse.Action):
    """Collects pairs of names and values into a dictionary; later ones hold."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(values, list)
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), **dict(values)})
