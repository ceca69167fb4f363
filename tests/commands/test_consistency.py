"""What all commands have in common."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import re

import optuna
import pytest


Run = Callable[..., tuple[int, str, str]]
COMMANDS = ("summary", "report", "compare", "export", "dashboard", "resume")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_the_same_options_and_an_example(run: Run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert re.search(rf"example: python -m cbal_optuna {command} sqlite:///\w+\.db", out)
    assert all(option in out for option in ("STORAGE", "--study NAME", "--json"))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_option_is_refused(run: Run, tmp_path: Path, command: str) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    optuna.create_study(study_name="a", storage=url)
    status, out, error = run(command, url, "--colour", "red", "-o", str(tmp_path / "o.html"))
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert not (tmp_path / "o.html").exists()


@pytest.mark.parametrize("command", ["summary", "report", "compare", "export"])
def test_json_is_all_that_is_printed(run: Run, tmp_path: Path, command: str) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    study = optuna.create_study(study_name="a", storage=url)
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), 2)
    output = () if command == "summary" else ("-o", str(tmp_path / "output"))
    status, out, error = run(command, url, "--json", *output)
    assert (status, error) == (0, "")
    assert json.loads(out)
