from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import yaml

from cbal_optuna.command_line import SCRIPTS
from cbal_optuna.command_line import StudyDescription
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.plain_files import read_plain


STUDIES = Path(__file__).parents[2] / "studies"
COUNT = st.integers(1, 1000)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "n-trials": COUNT,
    "timeout": st.none() | COUNT,
    "workers": COUNT,
    "stop-when-converged": st.booleans(),
    "sampler": st.sampled_from(["cd", "tpe"]),
    "sampler-options": st.dictionaries(
        st.sampled_from(["line_search", "tolerance"]), st.floats(0, 1) | st.text(max_size=5)
    ),
    "start-from": st.none() | st.text(max_size=8),
    "loss": st.sampled_from(["infonce", "margin"]),
    "batch-sizes": st.lists(COUNT, min_size=1, max_size=3),
    "space": st.fixed_dictionaries(
        {},
        optional={
            "balance": st.fixed_dictionaries(
                {"low": COUNT, "high": st.floats(1, 9), "log": st.booleans()}
            ),
            "temperature": st.lists(st.floats(0.1, 1), min_size=1),
            "denominator": st.just("all"),
        },
    ),
    "seed": st.integers(0, 2**31 - 1),
    "final": st.booleans(),
    "backbone": st.text(),
    "weights": st.sampled_from(["random", "pretrained", "-x"]),
    "image-size": st.none() | COUNT,
    "cache-dir": st.sampled_from(["/tmp/a b", "/x=y"]),
    "prune": st.booleans(),
    "head-only": st.booleans(),
    "learning-rate": st.none() | st.floats(1e-9, 1.0),
    "compile": st.booleans(),
    "micro-batch": st.sampled_from(["auto", "whole"]) | COUNT,
    "checkpoint-every": st.floats(0.1, 100),
}
DESCRIPTIONS = st.builds(
    StudyDescription, st.just("digits"), st.fixed_dictionaries({}, optional=OPTIONS)
)


def parsed(description: StudyDescription, *more: str) -> argparse.Namespace:
    return description.parsed(parser_of(description.script), more)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(description=DESCRIPTIONS)
def test_options_come_back_from_their_description(description: StudyDescription) -> None:
    options = parsed(description)
    described = StudyDescription.of(description.script, options).to_dict()
    for plain in (json.loads(json.dumps(described)), yaml.safe_load(yaml.safe_dump(described))):
        assert parsed(StudyDescription.from_dict(plain)) == options


@settings(deadline=None, max_examples=50, derandomize=True)
@given(description=DESCRIPTIONS)
def test_a_description_comes_back_from_a_file(
    tmp_path_factory: pytest.TempPathFactory, description: StudyDescription
) -> None:
    path = tmp_path_factory.getbasetemp() / "study.yaml"
    path.write_text(yaml.safe_dump(description.to_dict()), encoding="utf-8")
    assert parsed(StudyDescription.read(path)) == parsed(description)


def test_a_file_says_what_the_command_line_says() -> None:
    description = StudyDescription(
        "cub200",
        {
            "root": "birds",
            "head-only": True,
            "prune": False,
            "batch-sizes": ["32", "64"],
            "space": {"balance": {"low": "0.5", "high": "32", "log": True}},
            "timeout": None,
        },
    )
    command = ["--root", "birds", "--head-only", "--no-prune", "--batch-sizes", "32", "64"]
    command += ["--space", "balance={low: 0.5, high: 32, log: true}"]
    assert parsed(description) == parser_of(SCRIPTS["cub200"]).parse_args(command)


def test_options_that_follow_hold() -> None:
    description = StudyDescription(
        "digits", {"head-only": True, "seed": 1, "space": {"balance": 1, "temperature": 1}}
    )
    options = parsed(description, "--no-head-only", "--seed", "2", "--space", "balance=2")
    assert (options.head_only, options.seed) == (False, 2)
    assert options.space == {"balance": 2, "temperature": 1}


def test_places_are_kept_for_another_working_directory_but_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.safetensors").touch()
    command = ["--root", "birds", "--weights", "net.safetensors", "--cache-dir", "../cache"]
    command += ["--storage", "postgresql://me:secret@host/x", "--study-name", "x"]
    options = parser_of(SCRIPTS["cub200"]).parse_args(command)
    described = StudyDescription.of(SCRIPTS["cub200"], options).to_dict()
    assert described["root"] == str(tmp_path / "birds")
    assert described["weights"] == str(tmp_path / "net.safetensors")
    assert described["cache-dir"] == str(tmp_path.parent / "cache")
    assert "secret" not in str(described)
    assert not {"storage", "study-name", "report", "export"} & set(described)


def test_the_example_is_what_the_script_does_by_itself() -> None:
    example = StudyDescription.read(STUDIES / "digits.yaml")
    of_script = StudyDescription("digits", {})
    assert example.objective().description == of_script.objective().description


def test_an_objective_comes_back_from_its_description() -> None:
    options = {"head-only": True, "loss": "margin", "samples": 512, "space": {"margin": [0, 0.5]}}
    description = StudyDescription("digits", options)
    objective = description.objective()
    recorded = StudyDescription.of(description.script, parsed(description))
    again = StudyDescription.from_dict(recorded.to_dict()).objective()
    assert again.description == objective.description
    assert again.space.description == objective.space.description


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n-trial": 1}, "`n-trial` is no option of digits; did you mean 'n-trials'"),
        ({"root": "x"}, "`root` is no option of digits"),
        ({"help": True}, "`help` is no option of digits"),
        ({"n-trials": "0"}, "argument --n-trials: '0' is not a whole number of at least 1"),
        ({"n-trials": 1.5}, "argument --n-trials: '1.5' is not a whole number"),
        ({"n-trials": 10**10}, "argument --n-trials: '10000000000' is more than 2147483647"),
        ({"n-trials": True}, "`n-trials` is true; it should be a text or a number"),
        ({"n-trials": [1]}, "`n-trials` is \\[1\\]; it should be a text or a number"),
        ({"head-only": "yes"}, "`head-only` is 'yes'; it should be true or false"),
        ({"batch-sizes": []}, "argument --batch-sizes: expected at least one argument"),
        ({"batch-sizes": ["8", "--final"]}, "`batch-sizes` has '--final'; it should not begin"),
        ({"space": ["balance"]}, "`space` is \\['balance'\\]; it should have lines"),
        ({"space": {"loss": "margin"}}, "`space` is of the loss 'margin', and `loss` is 'info"),
        ({"space": {"balance": {}}}, "`balance` is {}; an interval should have low and high"),
        ({"learning-rate": "nan"}, "argument --learning-rate: 'nan' is not a positive number"),
        ({"cache-dir": "a\0b"}, "argument --cache-dir: .* characters that no path or URL has"),
        ({"cache-dir": "a" * 300}, "argument --cache-dir: .* name of more than 255 bytes"),
        ({"loss": "triplet"}, "argument --loss: invalid choice: 'triplet'"),
    ],
)
def test_what_is_wrong_is_a_value_error_in_python(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyDescription("digits", options).objective()


@pytest.mark.parametrize("plain", [{}, {"data": "cub"}, {"data": ["digits"]}, {"data": None}])
def test_an_unknown_data_set_is_told(plain: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`data` is .*; it should be one of digits, cub200"):
        StudyDescription.from_dict(plain)


def test_each_script_is_named_like_its_file() -> None:
    assert all((STUDIES / f"{name}.py").is_file() for name in SCRIPTS)
    assert read_plain(STUDIES / "digits.yaml")["data"] == "digits"
