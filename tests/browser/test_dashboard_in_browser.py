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
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna.commands.dashboard import server_of
from cbal_optuna.dashboard import DashboardUpdates
from cbal_optuna.storage import open_storage


NAME = "<b>birds_1</b>"


def objective(trial: optuna.Trial) -> float:
    balance = trial.suggest_float("balance", 0.1, 10, log=True)
    temperature = trial.suggest_float("temperature", 0.01, 1, log=True)
    trial.set_user_attr("recall_at_1", 0.5)
    return 1 / (1 + (balance - 3) ** 2 + (temperature - 0.2) ** 2)


@contextmanager
def dashboard_of(url: str) -> Iterator[str]:
    """The address of a dashboard of a study whose note and figures were made after trials."""
    dashboard = pytest.importorskip("optuna_dashboard")
    storage = open_storage(url)
    start = {"balance": 1.0, "temperature": 0.1}
    sampler = CoordinateDescentSampler(x0=start, seed=0)
    study = optuna.create_study(
        study_name=NAME, storage=storage, sampler=sampler, direction="maximize"
    )
    study.optimize(objective, 6)
    DashboardUpdates(study)()
    with server_of(Namespace(host="127.0.0.1", port=0), dashboard.wsgi(storage)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
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
