"""optuna-dashboard in a real browser, on the databases that people have."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import threading
from typing import Any

import optuna
from optuna.storages import BaseStorage
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.commands.dashboard import server_of
from cbal_optuna.dashboard import DashboardUpdates
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.summary import summarize
from cbal_optuna.summary import USUAL


NAME = "<b>birds_1</b>"


def objective(trial: optuna.Trial) -> float:
    balance = trial.suggest_float("balance", 0.1, 10, log=True)
    temperature = trial.suggest_float("temperature", 0.01, 1, log=True)
    trial.set_user_attr("recall_at_1", 0.5)
    return 1 / (1 + (balance - 3) ** 2 + (temperature - 0.2) ** 2)


@contextmanager
def served(storage: str | BaseStorage) -> Iterator[str]:
    """The address of a dashboard that is given nothing but a storage."""
    dashboard = pytest.importorskip("optuna_dashboard")
    with server_of(Namespace(host="127.0.0.1", port=0), dashboard.wsgi(storage)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def dashboard_of(url: str) -> Iterator[str]:
    """The address of a dashboard of a study whose note and figures were made after trials."""
    storage = open_storage(url)
    start = {"balance": 1.0, "temperature": 0.1}
    sampler = CoordinateDescentSampler(x0=start, seed=0)
    study = optuna.create_study(
        study_name=NAME, storage=storage, sampler=sampler, direction="maximize"
    )
    study.optimize(objective, 6)
    DashboardUpdates(study)()
    with served(storage) as address:
        yield address
    storage.engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_way_from_the_list_to_study_figures_trial_and_note(
    kind: str, open_window: Callable[..., Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    page = open_window(viewport={"width": 1300, "height": 1000})
    sqlite = f"sqlite:///{tmp_path}/a.db"
    url = sqlite if kind == "sqlite" else request.getfixturevalue("postgresql_schema")
    with dashboard_of(url) as address:
        page.goto(address)
        page.get_by_text(NAME).first.click()
        for title in ("Search path", "Each hyper-parameter"):
            figure = page.locator(".js-plotly-plot", has_text=title)
            figure.locator(".point").nth(5).wait_for(state="attached")
            assert figure.bounding_box()["height"] == 450
        page.locator("a[href$='/trials']").first.click()
        page.get_by_text("Trial 3", exact=True).first.click()
        page.get_by_text("recall_at_1").first.wait_for()
        page.locator("a[href$='/note']").first.click()
        page.get_by_role("heading", name=NAME).wait_for()
        assert page.get_by_text("6 trials: 6 completed.").is_visible()
        assert page.get_by_role("cell", name="temperature").first.is_visible()
        assert "cbal-begin" not in page.inner_text("body")


OVERLAPPING = """figure => {
  const boxes = [...figure.querySelectorAll("text, .bglayer .bg")].map(e => [
    e.textContent || "plot", e.getBoundingClientRect()]);
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  return boxes.flatMap(([text, box], i) => boxes.slice(i + 1)
    .filter(([, other]) => overlap(box, other)).map(([other]) => `${text} | ${other}`));
}"""


@pytest.fixture
def compared(
    tiny_objective: Callable[..., RetrievalObjective],
    add_best: Callable[..., None],
    tmp_path: Path,
) -> Iterator[str]:
    """The address of the dashboard's page of a study whose settings have been trained again."""
    url, objective = f"sqlite:///{tmp_path}/tiny.db", tiny_objective()
    storage = open_storage(url)
    study = open_study("tiny", storage, objective, "cd", 0)
    run_trials(study, objective, 3)
    add_best(study, value=0.9)
    usual, best = study.user_attrs[USUAL], summarize(study).recommended.params
    compare_settings(objective, storage, "tiny", usual, best, part="test", n_seeds=1)
    update_dashboard(study)
    with served(url) as address:
        yield f"{address}dashboard/studies/{study._study_id}"
    storage.engine.dispose()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_database_alone_shows_the_embeddings_and_what_queries_find(
    compared: str, open_window: Callable[..., Any], scheme: str
) -> None:
    page = open_window(viewport={"width": 1300, "height": 1000}, color_scheme=scheme)
    page.goto(compared)
    for title in ("Embeddings by principal directions", "Embeddings by t-SNE"):
        figure = page.locator(".js-plotly-plot", has_text=f"{title}, test classes")
        # Six classes of ten images on each of two maps.
        figure.locator(".point").nth(119).wait_for(state="attached")
        assert figure.get_by_text("best setting").is_visible()
    sheet = page.locator(".js-plotly-plot", has_text="Nearest neighbours, test classes")
    images = sheet.locator("image")
    images.nth(77).wait_for(state="attached")
    widths = [image.bounding_box()["width"] for image in images.all()]
    assert len(widths) == 78 and min(widths) > 30


def test_one_can_point_at_a_neighbour_and_look_closer(
    compared: str, open_window: Callable[..., Any]
) -> None:
    page = open_window(viewport={"width": 1300, "height": 1000})
    page.goto(compared)
    sheet = page.locator(".js-plotly-plot", has_text="Nearest neighbours, test classes")
    image = sheet.locator("image").nth(1)
    image.wait_for(state="attached")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    told = sheet.locator(".hovertext")
    told.wait_for(state="attached")
    assert "class: colour " in told.text_content()
    page.mouse.down()
    page.mouse.move(box["x"] + 3 * box["width"], box["y"] + 3 * box["height"], steps=3)
    page.mouse.up()
    closer = "was => document.querySelectorAll('image')[1].getBoundingClientRect().width > was"
    page.wait_for_function(closer, arg=1.5 * box["width"])


def test_no_text_of_a_figure_lies_on_another_or_on_a_plot(
    compared: str, open_window: Callable[..., Any]
) -> None:
    page = open_window(viewport={"width": 1300, "height": 1000})
    page.goto(compared)
    figures = page.locator("[id^='user-defined-plot'].js-plotly-plot")
    figures.nth(6).wait_for()
    for figure in figures.all():
        figure.locator(".bglayer .bg").first.wait_for(state="attached")
        assert figure.evaluate(OVERLAPPING) == []
