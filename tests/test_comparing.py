"""studies/compare.py as its users run it."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys

import optuna
import pandas as pd
import pytest

from cbal_optuna.command_line import main_of_comparison


STUDIES = Path(__file__).parents[1] / "studies"
QUICK = ["--samples", "512", "--n-trials", "2", "--seeds", "1"]


def compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STUDIES / "compare.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_searches_are_run_stored_and_compared_and_not_run_again(tmp_path: Path) -> None:
    done = compare(tmp_path, "digits", "--samplers", "cd", "random", "--jobs", "2", *QUICK)
    assert done.returncode == 0, done.stderr
    storage = f"sqlite:///{tmp_path}/digits.db"
    names = optuna.get_all_study_names(storage)
    assert sorted(names) == ["digits-random-seed0", "digits-seed0"]
    trials = pd.read_csv(tmp_path / "compare-digits" / "trials.csv")
    assert trials.groupby("sampler")["trial"].max().to_dict() == {"cd": 2, "random": 2}
    # The first trials are the same, and so is what comes of them.
    first = trials[trials["trial"] == 1].set_index("sampler")["value"]
    assert first["cd"] == first["random"]
    again = compare(tmp_path, "digits", "--samplers", "cd", "random", *QUICK)
    assert again.returncode == 0
    again_trials = pd.read_csv(tmp_path / "compare-digits" / "trials.csv")
    pd.testing.assert_frame_equal(again_trials, trials)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digit"], "argument STUDY: invalid choice: 'digit'"),
        (["digits", "--sampler", "tpe"], "`--sampler` is of a single search"),
        (["digits", "--export", "out"], "`--export` is of a single search"),
        (["digits", "--samplers", "xyz"], "invalid choice: 'xyz'"),
        (["digits", "--n-trials", "0"], "'0' is not a whole number of at least 1"),
        (["digits", "--seed", "2147483646", "--seeds", "2"], "go beyond 2147483647"),
        (["digits", "-o", "/proc/none"], "`--output` is '/proc/none'"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main_of_comparison(STUDIES, arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_a_comparison_is_not_for_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as exit:
        main_of_comparison(STUDIES, ["digits"])
    assert exit.value.code == 2
    assert "torchrun is for a single study" in capsys.readouterr().err
