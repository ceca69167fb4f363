"""The report as browsers lay it out: on a desk and on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from cbal_optuna.report import write_reports


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two studies, with long names and reasons."""
    studies = []
    for name in ("birds-" * 20, "cars"):
        study = optuna.create_study(study_name=name, direction="maximize")
        study.set_user_attr("weights", "f" * 200)
        for i in range(6):
            trial = study.ask()
            balance = trial.suggest_float("balance", 0.1, 10, log=True)
            trial.suggest_float("temperature", 0.01, 1, log=True)
            trial.suggest_categorical("batch_size", [32, 64, 128])
            if i == 4:
                trial.set_user_attr("failure", "OSError: /" + "long/" * 50)
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, balance)
        studies.append((study, ()))
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_reports(path, "2 studies", studies)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1300])
def test_the_page_is_as_wide_as_the_screen_and_its_figures_too(
    report: Path, width: int, scheme: str, open_window: Callable[..., Any]
) -> None:
    page = open_window(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(report.as_uri())
    page.locator("svg.main-svg").nth(15).wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".js-plotly-plot").count() == 8
    for figure in page.locator("figure").all():
        box = figure.bounding_box()
        assert box["width"] >= 0.85 * min(width, 1000)
        assert figure.locator(".main-svg").first.bounding_box()["width"] <= box["width"] + 1
    page.get_by_role("link", name="cars").click()
    top = page.locator("#section-1").bounding_box()["y"]
    assert -1 <= top < 800
    text = page.evaluate("getComputedStyle(document.body).color")
    assert (text == "rgb(228, 231, 234)") == (scheme == "dark")
