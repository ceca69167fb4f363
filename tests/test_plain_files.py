from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import yaml

from cbal_optuna.plain_files import plain_value
from cbal_optuna.plain_files import read_plain


SCALARS = st.none() | st.booleans() | st.text(max_size=20)
PLAIN = st.dictionaries(
    st.text(max_size=10),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
    min_size=1,
    max_size=4,
)


def written(folder: Path, content: str | bytes, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@settings(deadline=None, max_examples=50, derandomize=True)
@given(plain=PLAIN)
def test_what_yaml_and_json_have_written_is_read(folder: Path, plain: dict[str, Any]) -> None:
    assert read_plain(written(folder, yaml.safe_dump(plain))) == plain
    assert read_plain(written(folder, json.dumps(plain), "study.json")) == plain


@pytest.mark.parametrize(
    "text", ["1e-3", "010", "0x1F", "1:30:00", "2026-11-23", "1.10", "yes", "off", ".nan", "1_0"]
)
def test_numbers_and_dates_stay_the_text_that_they_were(tmp_path: Path, text: str) -> None:
    assert read_plain(written(tmp_path, f"a: {text}")) == {"a": text}


def test_three_words_mean_something_unless_they_are_quoted(tmp_path: Path) -> None:
    text = "{a: true, b: false, c: null, d: 'true', e: , f: ~}"
    expected = {"a": True, "b": False, "c": None, "d": "true", "e": None, "f": None}
    assert read_plain(written(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        ("# nothing", "it is empty"),
        ("- a", "it should have lines like `name: value`"),
        ("a: 1\na: 2", "it has 'a' twice"),
        ("a: {b: 1, b: 2}", "it has 'b' twice"),
        ("a: &x 1\nb: *x", "it has an alias"),
        ("a: !!python/object/apply:os.system [ls]", "it has the tag .*os.system in line 1"),
        ("a: !mine 1", "it has the tag !mine in line 1"),
        ("a: !!set {x}", "it has the tag .*set in line 1"),
        ("? [a]\n: 1", "a name in line 1 is not a text"),
        ("a: 1\n---\na: 1", "another document in line 2"),
        ("a: [1", "in line 1"),
        ("[" * 50_000, "it is nested too deeply"),
        ("a" * 200_000, "it has more than 100,000 bytes"),
        (b"a: \xff", "it is not UTF-8"),
        ("a: 1".encode("utf-16"), "it is not UTF-8"),
        ("a: \x00", "special characters"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=f"study.yaml cannot be read: .*{reason}"):
        read_plain(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        ("[1]", "it should have lines like"),
        ('{"a": 1, "a": 2}', "it has 'a' twice"),
        ("{", "Expecting property name"),
        ("[" * 90_000, "it is nested too deeply"),
    ],
)
def test_so_it_is_with_json(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"study.json cannot be read: .*{reason}"):
        read_plain(written(tmp_path, content, "study.json"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_plain(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("[0.5, 32, all, true]", [0.5, 32, "all", True]),
        ("{low: 1, high: 1e3, log: true}", {"low": 1, "high": 1e3, "log": True}),
        ("negatives", "negatives"),
    ],
)
def test_a_value_by_itself_has_numbers(text: str, value: object) -> None:
    found = plain_value(text)
    assert found == value and type(found) is type(value)
