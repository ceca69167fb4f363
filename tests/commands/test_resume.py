"""A study of digits, taken up from its storage alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path

import optuna
import pytest

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS
from cbal_optuna.command_line.running import SETTINGS
from cbal_optuna.interruption import Interrupted
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study


Run = Callable[..., tuple[int, str, str]]
QUICK = ["--backbone", "test_resnet", "--head-only", "--samples", "512", "--repeats", "1"]


@pytest.fixture
def study_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., int]:
    """Runs the script of digits: its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))

    def study_script(*arguments: str) -> int:
        with pytest.raises(SystemExit) as exit:
            main(SCRIPTS["digits"], [*QUICK, "--confirm", "0", *arguments])
        return int(exit.value.code or 0)

    return study_script


def loaded(storage: str = "digits.db", name: str = "digits") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{storage}")


def path_of(study: optuna.Study) -> list[tuple[dict[str, object], float | None]]:
    return [(t.params, t.value) for t in study.trials if t.state.name == "COMPLETE"]


def test_an_interrupted_study_goes_on_as_if_it_had_not_been(
    study_script: Callable[..., int],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = RetrievalObjective.__call__

    def interrupted(objective: RetrievalObjective, trial: optuna.Trial) -> float:
        if trial.number == 2:
            raise Interrupted(2)
        return call(objective, trial)

    options = ["--n-trials", "5", "--sampler-options", "initial_step=0.5"]
    options += ["--space", "balance={low: 0.5, high: 8, log: true}"]
    with monkeypatch.context() as patched:
        patched.setattr(Objective, "__call__", interrupted)
        assert study_script(*options) == 130
    assert len(path_of(loaded())) == 2
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("resume", "sqlite:///../digits.db")[0] == 0
    monkeypatch.chdir(tmp_path)
    assert study_script(*options, "--storage", "sqlite:///one_go.db") == 0
    assert path_of(loaded()) == path_of(loaded("one_go.db"))
    assert len(path_of(loaded())) == 5


def test_options_hold_over_those_that_are_stored_and_are_stored(
    study_script: Callable[..., int], run: Run
) -> None:
    study_script("--n-trials", "1")
    status, out, error = run("resume", "sqlite:///digits.db", "--json", "--n-trials", "2")
    assert status == 0, error
    assert json.loads(out)["trials"] == 2 and "digits: 2 trials" in error
    assert loaded().user_attrs[SETTINGS]["n-trials"] == 2
    assert loaded().user_attrs[SETTINGS]["data"] == "digits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--samples", "1024"), "`study_name` 'digits' is a study with samples 512, not 1024"),
        (("--n-trials", "0"), "argument --n-trials: '0' is not a whole number"),
        (("--n-trial", "0"), "argument --n-trials: '0' is not a whole number"),
        (("--storage", "sqlite:///x.db"), "`--storage` is that of the study to resume"),
        (("--study-name", "x"), "`--study-name` is that of the study to resume"),
        (("--study", "x"), "`--study` is 'x'; it should be one of 'digits'"),
        (("--study", "digits", "x"), "unrecognized arguments: x"),
        (("--root", "x"), "unrecognized arguments: --root x"),
    ],
)
def test_settings_that_disagree_are_told_and_nothing_is_written(
    study_script: Callable[..., int],
    run: Run,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    study_script("--n-trials", "1")
    before = (tmp_path / "digits.db").read_bytes()
    status, out, error = run("resume", "sqlite:///digits.db", *arguments)
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert message in error
    assert (tmp_path / "digits.db").read_bytes() == before


def test_help_says_that_it_is_a_single_study(run: Run) -> None:
    status, out, _ = run("resume", "--help")
    assert status == 0
    assert "[--study NAME] " in out and "(default: the only one, but for those" in out


def test_what_cannot_be_taken_up_says_why(
    tiny_objective: Callable[..., RetrievalObjective], run: Run, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    storage, objective = open_storage(url), tiny_objective()
    study = optuna.create_study(study_name="theirs", storage=storage)
    for settings in ("none", {"data": "mine"}, {"data": "cub200", "root": f"{tmp_path}/birds"}):
        name = settings if isinstance(settings, str) else settings["data"]
        study = open_study(name, storage, objective, "cd", 0)
        if isinstance(settings, dict):
            study.set_user_attr(SETTINGS, settings)
    for name, reason in {
        "theirs": "was not made by this package",
        "none": "was made in Python, by a script of your own or before studies kept their set",
        "mine": "`data` is 'mine'; it should be one of digits, cub200",
        "cub200": f"data of 'cub200' are not in {tmp_path}/birds; `--root` should say where",
    }.items():
        status, out, error = run("resume", url, "--study", name)
        assert (status, out, len(error.splitlines())) == (2, "", 1)
        assert reason in error
    open_study("cub200.test", storage, objective, "cd", 0)
    _, _, error = run("resume", url, "--study", "cub200.test")
    assert "trainings with fresh seeds; it should be 'cub200'" in error
    _, _, error = run("resume", url)
    assert "holds 'theirs', 'none', 'mine', 'cub200'; `--study` should name one" in error


def test_settings_that_someone_has_changed_are_checked_like_a_file(
    study_script: Callable[..., int], run: Run
) -> None:
    study_script("--n-trials", "1")
    settings = loaded().user_attrs[SETTINGS]
    for changed, message in (
        ({"colour": "red"}, "`colour` is no option of digits"),
        ({"head-only": 1}, "`head-only` is 1; it should be true or false"),
        ({"space": {"balance": None}}, "`balance` is None; it should be a number or a word"),
    ):
        loaded().set_user_attr(SETTINGS, {**settings, **changed})
        status, _, error = run("resume", "sqlite:///digits.db")
        assert status == 2 and message in error and len(error.splitlines()) == 1


def test_a_script_of_ones_own_keeps_no_settings(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))
    script = replace(
        SCRIPTS["digits"],
        add_arguments=lambda parser: parser.add_argument("--of", type=complex, default=1j),
    )
    with pytest.raises(SystemExit) as exit:
        main(script, [*QUICK, "--confirm", "0", "--n-trials", "1"])
    assert not exit.value.code
    assert SETTINGS not in loaded().user_attrs
    status, _, error = run("resume", "sqlite:///digits.db")
    assert status == 2 and "by a script of your own" in error
