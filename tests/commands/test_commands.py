from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path

import optuna
import pytest

from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study import SAMPLER
from cbal_optuna.study import SEARCH_SEED
from cbal_optuna.summary import summarize
from cbal_optuna.summary import USUAL
from cbal_optuna.warm_start import OBJECTIVE


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tiny_objective: Callable[..., RetrievalObjective], tmp_path: Path) -> str:
    """The storage of a study with its fresh seeds, and of one without a trial."""
    url = f"sqlite:///{tmp_path}/tiny.db"
    storage, objective = open_storage(url), tiny_objective()
    open_study("empty", storage, objective, "cd", 0)
    study = open_study("tiny", storage, objective, "cd", 0)
    run_trials(study, objective, 4)
    usual, best = study.user_attrs[USUAL], summarize(study).recommended.params
    compare_settings(objective, storage, "tiny", usual, best, part="test", n_seeds=2)
    return url


def test_a_summary_has_what_the_fresh_seeds_said(run: Run, url: str) -> None:
    status, out, _ = run("summary", url, "--study", "tiny")
    assert status == 0
    assert "tiny: 4 trials" in out
    assert "Test classes, 2 fresh seeds" in out


def test_all_studies_but_those_of_fresh_seeds_are_summed_up(run: Run, url: str) -> None:
    _, out, _ = run("summary", url, "--json")
    assert [found["study"] for found in json.loads(out)] == ["empty", "tiny"]


def test_json_has_the_recommended_setting(run: Run, url: str) -> None:
    _, out, _ = run("summary", url, "--study", "tiny", "--json")
    (found,) = json.loads(out)
    assert set(found["recommended"]["params"]) == {"balance", "temperature", "batch_size"}
    assert found["trials"] == 4


def test_a_report_is_written(run: Run, url: str, tmp_path: Path) -> None:
    status, _, _ = run("report", url, "--study", "tiny", "-o", str(tmp_path / "r.html"))
    assert status == 0
    assert "Trained again, test classes" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("summary", "sqlite:///none.db"), "`STORAGE` sqlite:///none.db holds no studies"),
        (("summary", "nonsense"), "`storage` is no URL of a database"),
        (("summary", "URL", "--study", "x"), "`--study` is 'x'; it should be one of 'empty'"),
        (("sumary", "URL"), "invalid choice: 'sumary'"),
        ((), "required: COMMAND"),
    ],
)
def test_bad_input_is_one_sentence(
    run: Run, url: str, arguments: tuple[str, ...], sentence: str
) -> None:
    status, _, error = run(*(url if a == "URL" else a for a in arguments))
    assert status == 2
    assert sentence in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("tiny.db", "the database of the studies; it should be another file"),
        ("precious.csv", "a file that is there and no .html file"),
        ("no/such.html", "it should be a file in a folder that exists"),
        (".", "it should be a file in a folder that exists"),
    ],
)
def test_a_report_is_written_over_nothing_else(
    run: Run, url: str, tmp_path: Path, output: str, sentence: str
) -> None:
    (tmp_path / "precious.csv").write_text("precious")
    status, _, error = run("report", url, "-o", str(tmp_path / output))
    assert (status, len(error.splitlines())) == (2, 1)
    assert "`--output` is '" in error and sentence in error
    assert (tmp_path / "precious.csv").read_text() == "precious"
    assert run("summary", url)[0] == 0


@pytest.mark.parametrize("command", ["summary", "report", "compare", "export"])
def test_a_study_of_several_objectives_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, command: str
) -> None:
    url, output = f"sqlite:///{tmp_path}/a.db", tmp_path / "output"
    optuna.create_study(study_name="one", storage=url)
    optuna.create_study(study_name="pareto", storage=url, directions=["minimize", "maximize"])
    arguments = () if command == "summary" else ("-o", str(output))
    status, _, error = run(command, url, *arguments)
    assert (status, len(error.splitlines())) == (2, 1)
    assert "'pareto' has 2 objectives; `--study` should name studies of a single one." in error
    assert not output.exists()


@pytest.mark.parametrize("command", ["summary", "report", "compare", "export"])
def test_attributes_of_other_packages_may_have_the_names_of_ours(
    run: Run, tmp_path: Path, command: str
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    study = optuna.create_study(storage=url)
    for name in (OBJECTIVE, SAMPLER, SEARCH_SEED, USUAL, "start"):
        study.set_user_attr(name, ["theirs"])
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), 2)
    arguments = () if command == "summary" else ("-o", str(tmp_path / "output"))
    status, _, error = run(command, url, *arguments)
    assert (status, error) == (0, "")
