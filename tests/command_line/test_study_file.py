"""studies/run.py as its users run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import re

import optuna
import pytest

from cbal_optuna.command_line import main
from cbal_optuna.command_line import main_of_file
from cbal_optuna.command_line import SCRIPTS


STUDIES = Path(__file__).parents[2] / "studies"
RunFile = Callable[..., tuple[int, str, str]]


def test_the_example_runs(run_file: RunFile) -> None:
    example = (STUDIES / "digits.yaml").read_text(encoding="utf-8")
    options = ["--head-only", "--backbone", "test_resnet", "--samples", "512", "--n-trials", "2"]
    status, out, error = run_file(example, *options, "--confirm", "0")
    assert status == 0, error
    assert "digits: 2 trials: 2 completed" in out


def test_a_file_and_the_script_make_the_same_study(run_file: RunFile, quick: str) -> None:
    assert run_file(quick)[0] == 0
    command = ["--backbone", "test_resnet", "--head-only", "--samples", "512", "--repeats", "1"]
    command += ["--confirm", "0", "--n-trials", "3"]
    with pytest.raises(SystemExit) as exit:
        main(SCRIPTS["digits"], command)
    assert not exit.value.code
    assert len(loaded().trials) == 3
    assert run_file(quick, "--n-trials", "3", "--storage", "sqlite:///again.db")[0] == 0
    again = optuna.load_study(study_name="digits", storage="sqlite:///again.db")
    assert [t.params for t in again.trials] == [t.params for t in loaded().trials]


def test_the_space_and_the_sampler_are_those_of_the_file(run_file: RunFile, quick: str) -> None:
    text = f"""{quick}
space:
  balance: {{low: 0.5, high: 4, log: true}}
  temperature: [0.05, 0.1]
  batch_size: 32
sampler-options: {{initial_step: 1}}
"""
    status, _, error = run_file(text)
    assert status == 0, error
    first, second = loaded().trials
    assert first.params == {"balance": 1, "temperature": 0.1}
    # From the middle of the range, a step to its end.
    assert second.params["balance"] in (0.5, 4) or second.params["temperature"] == 0.05


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (
            "embedding-dim: x",
            (),
            "argument --embedding-dim: .x. is not a whole number of at least",
        ),
        ("", ("--seed", "x"), "argument --seed: 'x' is not a whole number"),
        ("tmeout: 3", (), "`tmeout` is no option of digits; did you mean 'timeout'?"),
        ("space: {balance: {low: 3, high: 1}}", (), "`balance` is .* no interval"),
        ("sampler-options: {step: 1}", (), "`sampler_options` has 'step'"),
        ("device: abacus", (), "`device` is 'abacus'"),
        ("storage: 'postgresql://me:secret@127.0.0.1:1/x'", (), "`storage` .*me:\\*\\*\\*@"),
        ("x: [", (), "study.yaml cannot be read"),
        ("", ("more",), "unrecognized arguments: more"),
    ],
)
def test_bad_input_is_one_sentence_with_the_file_and_the_key_and_writes_nothing(
    run_file: RunFile,
    quick: str,
    tmp_path: Path,
    text: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    status, out, error = run_file(f"{quick}\n{text}", *arguments)
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert re.search(message, error)
    assert "study.yaml" in error and "secret" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main_of_file(["none.yaml"])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.endswith("error: none.yaml cannot be read: No such file or directory.\n")


def loaded() -> optuna.Study:
    return optuna.load_study(study_name="digits", storage="sqlite:///digits.db")
