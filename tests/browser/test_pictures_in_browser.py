"""Maps and nearest neighbours as browsers lay them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.report import write_report
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "n_columns"), [(375, 1), (1300, 2)])
def test_pictures_are_side_by_side_on_a_desk_and_below_each_other_on_a_phone(
    tiny_objective: Callable[..., RetrievalObjective],
    tmp_path: Path,
    width: int,
    n_columns: int,
    scheme: str,
    open_window: Callable[..., Any],
) -> None:
    objective, storage = tiny_objective(), open_storage(f"sqlite:///{tmp_path}/a.db")
    usual = {"balance": 1.0, "temperature": 0.1, "batch_size": 16}
    best = {**usual, "balance": 4.0}
    study = open_study("a", storage, objective, "cd", 0)
    compared = compare_settings(objective, storage, "a", usual, best, part="test", n_seeds=1)
    write_report(tmp_path / "report.html", study, [compared])

    page = open_window(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto((tmp_path / "report.html").as_uri())
    page.locator(".maps .main-svg").nth(7).wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cells = [cell.bounding_box() for cell in page.locator(".maps > div").all()]
    drawn = [m.bounding_box() for m in page.locator(".maps .main-svg:first-child").all()]
    assert len(cells) == len(drawn) == 4
    assert len({round(cell["x"]) for cell in cells}) == n_columns
    for cell, figure in zip(cells, drawn, strict=True):
        assert cell["width"] - 2 <= figure["width"] <= cell["width"] + 1
    groups = page.locator(".search").first.locator("ul").all()
    assert len({round(group.bounding_box()["x"]) for group in groups}) == n_columns
    images = "[...document.querySelectorAll('.search img')].map(image => image.naturalWidth)"
    widths = page.evaluate(images)
    assert len(widths) >= 8 * 13 and min(widths) > 0
    frames = "kind => getComputedStyle(document.querySelector(`.${kind} img`)).borderStyle"
    assert [page.evaluate(frames, kind) for kind in ("right", "wrong")] == ["solid", "dashed"]
