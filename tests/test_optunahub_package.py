"""The package for the OptunaHub registry."""

from __future__ import annotations

from functools import partial
from pathlib import Path
import re
import runpy

import optuna
import pytest

from cbal_optuna import CoordinateDescentSampler


# Not `optunahub`, which is also the name of the folder.
optunahub = pytest.importorskip("optunahub.hub")

REGISTRY = Path(__file__).parents[1] / "optunahub" / "package"
PACKAGE = REGISTRY / "samplers" / "coordinate_descent"


def test_it_is_the_sampler_itself() -> None:
    module = optunahub.load_local_module(
        "samplers/coordinate_descent", registry_root=str(REGISTRY)
    )

    assert module.__all__ == ["CoordinateDescentSampler"]
    assert module.CoordinateDescentSampler is CoordinateDescentSampler


def test_the_front_matter_is_what_the_registry_asks_for() -> None:
    front, _, text = (PACKAGE / "README.md").read_text().removeprefix("---\n").partition("---\n")
    fields = dict(line.split(": ", 1) for line in front.splitlines())

    assert list(fields) == [
        "author",
        "title",
        "description",
        "tags",
        "optuna_versions",
        "license",
    ]
    assert all(fields.values())
    assert "sampler" in fields["tags"].strip("[]").split(", ")
    assert fields["license"] == "MIT License"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Abstract",
        "APIs",
        "Installation",
        "Example",
        "Others",
    ]


def test_its_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    study = runpy.run_path(str(PACKAGE / "example.py"))["study"]

    assert study.trials[0].params == {"balance": 1.0, "temperature": 0.1, "batch_size": 128}
    assert study.best_value < 0.1
    assert str(study.best_value) in capsys.readouterr().out


def test_the_example_of_its_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    local = partial(optunahub.load_local_module, registry_root=str(REGISTRY))
    monkeypatch.setattr("optunahub.load_module", local)
    (example,) = re.findall("```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    names: dict[str, optuna.Study] = {}
    exec(example, names)

    assert len(names["study"].trials) == 20
    assert names["study"].best_value < 0.1
