"""Whatever stands in a study file or on a command line: a study, or one sentence and no study.

The trials are left out.
"""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path

from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import yaml

from cbal_optuna.command_line import main
from cbal_optuna.command_line import main_of_file
from cbal_optuna.command_line import SCRIPTS
from cbal_optuna.command_line.options import parser_of


MANY = settings.get_profile("any input")
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


@MANY
@given(content=CONTENTS, suffix=st.sampled_from(["yaml", "json"]))
@example(content=b"[" * 90_000, suffix="yaml")
@example(
    content=b"\xef\xbb\xbfdata: digits\nhead-only: true\nbackbone: test_resnet", suffix="yaml"
)
def test_a_study_file_is_a_study_or_a_sentence(
    study_or_sentence: Callable[..., str], content: bytes, suffix: str
) -> None:
    name = f"study.{suffix}"
    study_or_sentence(lambda: main_of_file([name]), lambda: Path(name).write_bytes(content))


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
def test_a_command_line_is_a_study_or_a_sentence(
    study_or_sentence: Callable[..., str], arguments: list[str]
) -> None:
    quick = ["--head-only", "--backbone", "test_resnet", "--samples", "512"]
    study_or_sentence(lambda: main(SCRIPTS["digits"], [*quick, *arguments]))
