"""Commands on searches of one objective under several samplers."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import re

import optuna
import pandas as pd
from plotly.offline import get_plotlyjs
import pytest

from cbal_optuna.commands import export
from cbal_optuna.storage import open_storage
from cbal_optuna.study import SAMPLER
from cbal_optuna.study import SEARCH_SEED
from cbal_optuna.warm_start import OBJECTIVE


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Two samplers, two seeds, and a study of something else."""
    url = f"sqlite:///{tmp_path}/a.db"
    storage = open_storage(url)
    searches = [(s, seed, "birds") for s in ("random", "tpe") for seed in (0, 1)]
    for sampler, seed, dataset in [*searches, ("random", 0, "cars")]:
        own = optuna.samplers.RandomSampler(seed=seed)
        name = f"<i>{dataset}</i>-{sampler}-{seed}"
        study = optuna.create_study(study_name=name, storage=storage, sampler=own)
        study.set_user_attr(OBJECTIVE, {"dataset": dataset, "seed": seed})
        study.set_user_attr(SAMPLER, sampler)
        study.set_user_attr(SEARCH_SEED, seed)
        study.optimize(lambda trial: trial.suggest_float("balance", 0.1, 10, log=True), 2)
    return url


BIRDS = [f"<i>birds</i>-{sampler}-{seed}" for sampler in ("random", "tpe") for seed in (0, 1)]


def test_a_report_of_several_studies_has_a_section_each_and_the_comparison(
    run: Run, url: str, tmp_path: Path
) -> None:
    status, _, _ = run("report", url, "-o", str(tmp_path / "r.html"))
    assert status == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<section") == 6
    assert page.count("Samplers compared") == 2, "in the contents and as a heading"
    assert page.count(get_plotlyjs()) == 1
    assert page.index(get_plotlyjs()) < page.index("Plotly.newPlot(")
    identifiers = re.findall(r' id="([^"]+)"', page.replace(get_plotlyjs(), ""))
    assert len(identifiers) == len(set(identifiers)) == 6 + 5 * 4 + 1
    assert re.findall(r'href="#([^"]+)"', page) == [f"section-{i}" for i in range(6)]
    assert "<i>birds" not in page


def test_stored_searches_are_compared(run: Run, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    status, out, _ = run("compare", url, "--study", *BIRDS, "-o", str(folder), "--json")
    assert status == 0
    assert [row["sampler"] for row in json.loads(out)] == ["random", "tpe"]
    assert {path.name for path in folder.iterdir()} == {"index.html", "table.csv", "trials.csv"}


def test_other_objectives_and_equal_searches_are_not_compared(run: Run, url: str) -> None:
    status, _, error = run("compare", url)
    assert status == 2
    assert "The 5 studies have 2 objectives; `--study` should name" in error
    status, _, error = run("compare", url, "--study", BIRDS[0], BIRDS[0])
    assert status == 2
    assert "two have 'random' and 0" in error


def test_figures_and_trials_are_exported(run: Run, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    status, out, _ = run("export", url, "--study", BIRDS[0], "-o", str(folder))
    assert status == 0
    written = Path(out.strip())
    assert written.parent == folder
    assert {path.name for path in written.iterdir()} == {
        "history.html",
        "search-path.html",
        "slices.html",
        "timeline.html",
        "trials.csv",
    }
    assert len(pd.read_csv(written / "trials.csv")["params_balance"]) == 2


def test_a_file_is_no_folder_to_export_to(run: Run, url: str, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    status, _, error = run("export", url, "-o", str(path))
    assert (status, len(error.splitlines())) == (2, 1)
    assert f"`--output` is '{path}', a file; it should be a folder." in error
    assert path.read_text() == "precious"


def test_trials_come_back_from_parquet(run: Run, url: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    arguments = ("--figures", "--trials", "parquet", "-o", str(tmp_path / "out"))
    _, out, _ = run("export", url, "--study", BIRDS[0], *arguments)
    trials = pd.read_parquet(Path(out.strip()) / "trials.parquet")
    assert trials["state"].tolist() == ["COMPLETE", "COMPLETE"]


def test_a_package_that_is_missing_is_named(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    status, _, error = run("export", url, "-o", str(tmp_path / "out"), "--figures", "svg")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "'svg' needs kaleido, which is not installed: " in error
    assert not (tmp_path / "out").exists()
