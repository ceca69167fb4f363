"""A study in plain types, as a file or a storage keeps it: its data set and its options.

It is the command line of the data set's script in another form. ``{"data": "cub200", "n-trials":
20}`` is ``studies/cub200.py --n-trials 20``, and the script's parser is what reads both.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
import json
import os
from pathlib import Path
from typing import Any

import yaml

from cbal_optuna.command_line.data_sets import SCRIPTS
from cbal_optuna.command_line.objectives import fill_in_defaults
from cbal_optuna.command_line.objectives import objective_of
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.command_line.parser import Assignments
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.command_line.parser import RaisingParser
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.plain_files import read_plain


_DATA = "data"
# Where a study is and where a run puts its results: each run says so itself, and a URL may hold a
# password.
_OF_A_RUN = ("storage", "study-name", "report", "export")


@dataclass(frozen=True)
class StudyDescription:
    """A study in plain types.

    Example:
        .. code-block:: python

            StudyDescription("digits", {"n-trials": 20, "batch-sizes": [32, 64]})

    Args:
        data:
            The data set, by the name of its script in ``studies/``.
        options:
            Options of that script by name, without the dashes in front; what is :obj:`None` is as
            if it was not there.
    """

    data: str
    options: Mapping[str, Any]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> StudyDescription:
        """What :meth:`to_dict` gives, or a file holds.

        Raises:
            ValueError: Its data set is none of the package's.
        """
        data = plain.get(_DATA)
        if not isinstance(data, str) or data not in SCRIPTS:
            raise ValueError(f"`{_DATA}` is {data!r}; it should be one of {', '.join(SCRIPTS)}.")
        return cls(data, {key: value for key, value in plain.items() if key != _DATA})

    @classmethod
    def read(cls, path: Path) -> StudyDescription:
        """That of a file of YAML or JSON.

        Raises:
            ValueError: It cannot be read, or as for :meth:`from_dict`.
        """
        return cls.from_dict(read_plain(path))

    @classmethod
    def of(cls, script: StudyScript, options: argparse.Namespace) -> StudyDescription:
        """That of a command line, but for where its study is and where its results go."""
        described = {}
        for key, action in _actions(parser_of(script)).items():
            value = getattr(options, action.dest)
            if key not in _OF_A_RUN and value is not None and value != {}:
                described[key] = _plain(key, value)
        return cls(script.name, described)

    @property
    def script(self) -> StudyScript:
        """That of the data set."""
        return SCRIPTS[self.data]

    def to_dict(self) -> dict[str, Any]:
        """In plain types, as files of YAML or JSON have them."""
        return {_DATA: self.data, **self.options}

    def parsed(self, parser: Parser, more: Sequence[str] = ()) -> argparse.Namespace:
        """As the command line of the script, followed by more arguments, which hold over these.

        What is wrong is an error of the parser.
        """
        try:
            arguments = self._arguments(parser)
        except ValueError as error:
            parser.error(str(error))
        return parser.parse_args([*arguments, *more])

    def objective(self) -> Objective[Outcome]:
        """What the trials of such a study evaluate.

        Raises:
            ValueError: An option is wrong, or does not fit the data.
            OSError: The data or the cache cannot be used.
        """
        options = self.parsed(parser_of(self.script, RaisingParser))
        fill_in_defaults(options, self.script.name)
        return objective_of(self.script, options)

    def _arguments(self, parser: Parser) -> list[str]:
        known = _actions(parser)
        arguments = []
        for key, value in self.options.items():
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                raise ValueError(f"`{key}` is no option of {self.data}{hint}")
            if value is not None:
                arguments += _arguments_of(key, known[key], value)
        return arguments


def _actions(parser: Parser) -> dict[str, argparse.Action]:
    """The options of a parser by the first of their names, without its dashes."""
    return {
        action.option_strings[0].removeprefix("--"): action
        for action in parser._actions
        if action.option_strings and action.dest != "help"
    }


def _plain(key: str, value: Any) -> Any:
    """A value of the command line, fit for another working directory."""
    if isinstance(value, Path) or (key == "weights" and os.path.isfile(value)):
        return os.path.abspath(value)
    return list(value) if isinstance(value, (list, tuple)) else value


def _arguments_of(key: str, action: argparse.Action, value: Any) -> list[str]:
    """Those of the command line that say the same."""
    if isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise ValueError(f"`{key}` is {value!r}; it should be true or false.")
        return [f"--{key}" if value else f"--no-{key}"]
    if isinstance(action, Assignments):
        if not isinstance(value, Mapping):
            raise ValueError(f"`{key}` is {value!r}; it should have lines like `name: value`.")
        values = [f"{name}={_yaml(setting)}" for name, setting in value.items()]
        return [f"--{key}", *_without_dashes(key, values)] if values else []
    if action.nargs == "+":
        values = [_text(key, item) for item in (value if isinstance(value, list) else [value])]
        return [f"--{key}", *_without_dashes(key, values)]
    return [f"--{key}={_text(key, value)}"]


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"`{key}` is {json.dumps(value)}; it should be a text or a number.")
    return str(value)


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text


def _without_dashes(key: str, values: list[str]) -> list[str]:
    """The values, which the command line would take for options if they began like one."""
    for value in values:
        if value.startswith("-"):
            raise ValueError(f"`{key}` has {value!r}; it should not begin with '-'.")
    return values
