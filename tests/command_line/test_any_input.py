"""Whatever stands in a study file or on a command line: a study, or one sentence and no study.

The trials are left out. ``CBAL_FUZZ=5000`` tries as many inputs, others each time.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import redirect_stderr
from contextlib import redirect_stdout
import io
import json
import os
from pathlib import Path
import tempfile
from typing import Any

from hypothesis import example
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import yaml

from cbal_optuna.command_line import main
from cbal_optuna.command_line import main_of_file
from cbal_optuna.command_line import running
from cbal_optuna.command_line import SCRIPTS
from cbal_optuna.command_line.options import parser_of


ASKED_FOR = os.environ.get("CBAL_FUZZ")
MANY = settings(
    deadline=None,
    max_examples=int(ASKED_FOR or 300),
    derandomize=ASKED_FOR is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
QUICK = {
    "data": "digits",
    "backbone": "test_resnet",
    "weights": "random",
    "head-only": True,
    "samples": 512,
    "n-trials": 1,
}
KEYS = [
    action.option_strings[0].removeprefix("--")
    for action in parser_of(SCRIPTS["digits"])._actions
    if action.dest != "help"
]
# Neither folders elsewhere nor sizes of images, which would be decoded.
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Nd"], exclude_characters="/."), max_size=8
)
ODD = st.sampled_from(
    ["", " ", "-", "--", "--final", "-1", "0", "1.5", "nan", "inf", "1e400", "9" * 30, "9" * 5000]
    + [
        "a\nb",
        "a\0b",
        "\ud800",
        "\x85",
        "💥",
        "é" * 200,
        "x" * 300,
        "true",
        "null",
        "[",
        "a=b",
        "=",
        "a=[",
    ]
    + ["balance=[1, 2]", "balance={low: 1, high: 2}", "balance={low: 2, high: 1}", "line_search=x"]
)
SCALARS = st.none() | st.booleans() | st.integers(-2, 1) | st.floats() | ODD | TEXTS
INTERVALS = st.dictionaries(
    st.sampled_from(["low", "high", "step", "log", "whole", "x"]), SCALARS | st.integers(1, 64)
)
SPACES = st.dictionaries(
    st.sampled_from(
        ["balance", "temperature", "batch_size", "denominator", "margin", "loss", "-"]
    ),
    SCALARS | INTERVALS | st.lists(SCALARS | st.sampled_from([32, 64]), max_size=3),
    max_size=3,
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
OPTIONS = st.dictionaries(st.sampled_from([*KEYS, "help", "n_trials", "data"]) | TEXTS, TREES)
FILES = st.fixed_dictionaries({}, optional={"space": SPACES, "sampler-options": SPACES})
MAPPINGS = st.builds(
    lambda a, b, c: {**a, **b, **c}, st.just(QUICK), FILES, OPTIONS.filter(len)
) | (st.builds(lambda a, b: {**a, **b}, st.just(QUICK), FILES))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The text of a study file with something else in it."""
    text = yaml.safe_dump({**QUICK, "space": {"balance": {"low": 1, "high": 8, "log": True}}})
    start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
    between = draw(
        TEXTS | st.sampled_from(["&a", "*a", "!!int", "!x", "---\n", "\t", "{", "- ", ": "])
    )
    return (text[:start] + between + text[start + length :]).encode()


CONTENTS = (
    st.binary(max_size=60)
    | TEXTS.map(str.encode)
    | damaged()
    | TREES.map(lambda tree: yaml.safe_dump(tree).encode())
    | MAPPINGS.map(lambda plain: yaml.safe_dump(plain).encode())
    | MAPPINGS.map(lambda plain: json.dumps(plain).encode())
)


@pytest.fixture(scope="module", autouse=True)
def no_trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(running, "_run", lambda *arguments: 0)
        patched.setenv("CBAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def check(run: Callable[[], Any], name: str = "", content: bytes = b"") -> None:
    """It ends with status 0, or with 2, one sentence and nothing written."""
    out, error = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        if name:
            Path(name).write_bytes(content)
        with redirect_stdout(out), redirect_stderr(error), pytest.raises(SystemExit) as exit:
            run()
        written = {path.name for path in Path().iterdir()} - {name}
    status = exit.value.code or 0
    assert status in (0, 2), error.getvalue()
    if status == 2:
        (sentence,) = error.getvalue().splitlines()
        assert ": error: " in sentence
        assert not written
    else:
        assert len([file for file in written if file.endswith(".db")]) <= 1


@MANY
@given(content=CONTENTS, suffix=st.sampled_from(["yaml", "json"]))
@example(content=b"[" * 90_000, suffix="yaml")
@example(
    content=b"\xef\xbb\xbfdata: digits\nhead-only: true\nbackbone: test_resnet", suffix="yaml"
)
def test_a_study_file_is_a_study_or_a_sentence(content: bytes, suffix: str) -> None:
    name = f"study.{suffix}"
    check(lambda: main_of_file([name]), name, content)


@MANY
@example(arguments=["--samples=--"])
@example(arguments=[f"--weights={'x' * 300}"])
@example(arguments=["--batch-sizes=--"])
@given(
    arguments=st.lists(
        st.builds("--{}={}".format, st.sampled_from(KEYS), ODD | TEXTS)
        | st.sampled_from([f"--{key}" for key in KEYS])
        | ODD
        | TEXTS
        | st.integers(-1, 1).map(str),
        max_size=4,
    )
)
def test_a_command_line_is_a_study_or_a_sentence(arguments: list[str]) -> None:
    quick = ["--head-only", "--backbone", "test_resnet", "--samples", "512"]
    check(lambda: main(SCRIPTS["digits"], [*quick, *arguments]))
