"""optuna-dashboard's API answers on a study of this package, and shows what one looks for."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
from optuna.study import Study
import pytest

from cbal_optuna import dashboard as dashboard_module
from cbal_optuna.dashboard import DashboardUpdates
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials


def test_the_dashboard_shows_trials_and_user_attributes(
    tiny_objective: Callable[..., RetrievalObjective], tmp_path: Path
) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    storage = open_storage(f"sqlite:///{tmp_path}/tiny.db")
    objective = tiny_objective()
    study = open_study("tiny", storage, objective, "cd", 0)
    run_trials(study, objective, 3)

    application = dashboard.wsgi(storage)
    (summary,) = get(application, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "tiny"
    trials = get(application, f"/api/studies/{summary['study_id']}", "after=0")["trials"]
    assert [trial["state"] for trial in trials] == ["Complete"] * 3
    for trial in trials:
        assert {param["name"] for param in trial["params"]} == {
            "balance",
            "temperature",
            "batch_size",
        }
        shown = {attribute["key"] for attribute in trial["user_attrs"]}
        assert {
            "recall_at_1",
            "recall_at_2",
            "recall_at_4",
            "recall_at_8",
            "r_precision",
            "nmi",
            "positive",
            "entropy",
            "gradient_ratio",
            "samples_per_second",
            "seconds",
            "versions",
            "seed",
        } <= shown


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = optuna.create_study(
        study_name="<b>a_b</b> | c", storage=open_storage(f"sqlite:///{tmp_path}/a.db")
    )
    study.optimize(lambda trial: trial.suggest_float("balance", 0.1, 10, log=True), 3)
    return study


def shown(study: Study) -> Any:
    """What the dashboard's pages are made of."""
    dashboard = pytest.importorskip("optuna_dashboard")
    application = dashboard.wsgi(study._storage)
    return get(application, f"/api/studies/{study._study_id}", "after=0")


def test_the_note_and_the_figures_are_those_of_the_study(study: Study) -> None:
    update_dashboard(study)
    found = shown(study)
    assert "3 trials: 3 completed." in found["note"]["body"]
    figures = {f["id"]: json.loads(f["graph_object"]) for f in found["plotly_graph_objects"]}
    assert set(figures) == {"cbal-history", "cbal-search-path", "cbal-slices"}
    assert figures["cbal-history"]["layout"]["title"]["text"] == "History"


def test_names_are_no_markdown(study: Study) -> None:
    update_dashboard(study)
    assert r"## \<b\>a\_b\</b\> \| c" in shown(study)["note"]["body"]


def test_what_people_wrote_stays_and_the_result_is_replaced(study: Study) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    # Of several pieces of the dashboard's.
    dashboard.save_note(study, "Bought with the grant.\n" * 200)
    update_dashboard(study)
    dashboard.save_note(study, dashboard.get_note(study) + "\n\nLast words.")
    study.optimize(lambda trial: trial.suggest_float("balance", 0.1, 10, log=True), 1)
    update_dashboard(study)
    note = shown(study)["note"]["body"]
    assert note.startswith("Bought with the grant.") and note.endswith("Last words.")
    assert note.count("Bought") == 200 and note.count("Last words") == 1
    assert "4 trials: 4 completed." in note and "3 trials" not in note


def test_a_text_is_written_at_once_so_that_those_of_two_workers_cannot_mix(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = study._storage.set_study_system_attr

    def record(study_id: int, key: str, value: Any) -> None:
        written.append(key)
        write(study_id, key, value)

    monkeypatch.setattr(study._storage, "set_study_system_attr", record)
    update_dashboard(study)
    assert {key.rpartition(":")[2] for key in written} == {"0", "note_ver"}
    assert len(written) == len(set(written)) == 5
    update_dashboard(study)
    assert len(written) == 5, "nothing has changed"


def test_updates_after_trials_are_as_rare_as_they_are_slow(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, updated = [0.0], list[float]()

    def update(study: Study) -> None:
        updated.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(dashboard_module, "update_dashboard", update)
    monkeypatch.setattr(dashboard_module.time, "monotonic", lambda: now[0])
    updates = DashboardUpdates(study)
    for second in (0.0, 100.0, 201.0, 203.0, 300.0):
        now[0] = second
        updates()
    assert updated == [0.0, 203.0], "two seconds are 1 % of 200"


def get(application: Callable[..., Any], path: str, query: str = "") -> Any:
    """A GET request to a WSGI application."""
    environment: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query}
    setup_testing_defaults(environment)
    statuses: list[str] = []
    answer = application(environment, lambda status, *_: statuses.append(status))
    body = b"".join(answer)
    assert statuses[0].startswith("200"), statuses
    return json.loads(body)
