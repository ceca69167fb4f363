"""Descriptions in files of YAML or JSON, read as text: nothing in a file is taken for a date, an
octal number or an object of Python's.

A number stays the text that it was, for whom it is meant to read it as the command line would;
only ``true``, ``false`` and ``null`` mean something by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any

import yaml


# Of a description, which a person has written.
LARGEST_FILE = 100_000
_DEEPEST = 10
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}
_STANDARD = "tag:yaml.org,2002:"
# Those that a text may be taken for.
_SCALARS = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")


def read_plain(path: Path) -> dict[str, Any]:
    """What a file says: JSON if its name ends so, else YAML.

    Raises:
        ValueError: It cannot be read, or is more than names with texts, lists and further names.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
        text = content.decode("utf-8-sig")
        described = _json(text) if path.suffix.lower() == ".json" else _yaml(text)
        if described is None:
            raise ValueError("it is empty")
        if not isinstance(described, dict):
            raise ValueError("it should have lines like `name: value`")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read: it is not UTF-8.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} cannot be read: it is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    return described


def plain_value(text: str) -> Any:
    """What a text of YAML or JSON means, numbers included.

    Raises:
        ValueError: It is none.
    """
    return _with_numbers(_yaml(text))


def _yaml(text: str) -> Any:
    try:
        _check_events(text)
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(_reason(error)) from error
    return None if node is None else _plain(node)


def _check_events(text: str) -> None:
    """See that a small text is no large thing, before it is made."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has an alias (*name), which is not allowed")


def _reason(error: yaml.YAMLError) -> str:
    """Without the lines that it is about, which may hold a password."""
    reason = getattr(error, "problem", None) or getattr(error, "reason", "it is no YAML")
    mark = getattr(error, "problem_mark", None)
    return f"{reason}" if mark is None else f"{reason} in line {mark.line + 1}"


def _plain(node: yaml.Node) -> Any:
    line = node.start_mark.line + 1
    kinds = {yaml.SequenceNode: ("seq",), yaml.MappingNode: ("map",)}.get(type(node), _SCALARS)
    if node.tag.removeprefix(_STANDARD) not in kinds:
        raise ValueError(f"it has the tag {node.tag} in line {line}, which is not allowed")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"a name in line {line} is not a text")
        return _without_repetitions((key.value, _plain(value)) for key, value in node.value)
    return _WORDS.get(node.value, node.value) if node.style is None else node.value


def _json(text: str) -> Any:
    if not text.strip():
        return None
    return json.loads(
        text,
        object_pairs_hook=_without_repetitions,
        parse_int=str,
        parse_float=str,
        parse_constant=str,
    )


def _without_repetitions(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it has {key!r} twice")
        found[key] = value
    return found


def _with_numbers(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _with_numbers(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_with_numbers(value) for value in plain]
    for kind in (int, float):
        try:
            return plain if plain is None or isinstance(plain, bool) else kind(plain)
        except ValueError:
            continue
    return plain
