"""optuna-dashboard's API answers on a study of this package, and shows what one looks for."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import shutil
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
from optuna.study import Study
import pytest

from cbal_optuna import dashboard as dashboard_module
from cbal_optuna import retraining
from cbal_optuna.dashboard import DashboardUpdates
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.summary import summarize
from cbal_optuna.summary import USUAL


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
    assert "3 trials: 3 completed." in shown(study)["note"]["body"]
    figures = figures_of(study)
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


@pytest.fixture
def compared(
    tiny_objective: Callable[..., RetrievalObjective],
    add_best: Callable[..., None],
    tmp_path: Path,
) -> Study:
    """A study whose usual and best setting, two different ones, have been trained once more."""
    storage, objective = open_storage(f"sqlite:///{tmp_path}/tiny.db"), tiny_objective()
    study = open_study("tiny", storage, objective, "cd", 0)
    run_trials(study, objective, 3)
    add_best(study)
    usual, best = study.user_attrs[USUAL], summarize(study).recommended.params
    for part in ("validation", "test"):
        compare_settings(objective, storage, "tiny", usual, best, part=part, n_seeds=1)
    return study


def figures_of(study: Study) -> dict[str, Any]:
    return {f["id"]: json.loads(f["graph_object"]) for f in shown(study)["plotly_graph_objects"]}


def test_pictures_of_the_embeddings_are_figures_too(compared: Study) -> None:
    update_dashboard(compared)
    assert "Test classes, one fresh seed:" in shown(compared)["note"]["body"]
    figures = figures_of(compared)
    titles = {name: figure["layout"]["title"]["text"] for name, figure in figures.items()}
    assert titles["cbal-map-pca"] == "Embeddings by principal directions, test classes"
    assert titles["cbal-map-tsne"] == "Embeddings by t-SNE, test classes"
    assert titles["cbal-neighbours"] == "Nearest neighbours, test classes"
    assert len(figures["cbal-neighbours"]["layout"]["images"]) == 6 * 13


def test_what_a_comparison_was_evaluated_on_is_no_markup(compared: Study) -> None:
    comparison = optuna.load_study(study_name="tiny.test", storage=compared._storage)
    comparison.set_user_attr("held_out", "<b>a_b</b>")
    update_dashboard(compared)
    title = figures_of(compared)["cbal-map-tsne"]["layout"]["title"]["text"]
    assert title == "Embeddings by t-SNE, test &lt;b&gt;a_b&lt;/b&gt;"
    assert r"Test \<b\>a\_b\</b\>, one fresh seed:" in shown(compared)["note"]["body"]


def test_updates_after_trials_know_what_has_been_compared(compared: Study) -> None:
    DashboardUpdates(compared)()
    assert "cbal-map-tsne" in figures_of(compared)


def test_pictures_of_a_setting_that_is_no_longer_the_best_go(
    compared: Study, add_best: Callable[..., None]
) -> None:
    update_dashboard(compared)
    add_best(compared, balance=2.0, value=5.0)
    update_dashboard(compared)
    for name in ("map-pca", "map-tsne", "neighbours"):
        figure = figures_of(compared)[f"cbal-{name}"]
        assert figure["data"] == [] and "images" not in figure["layout"]
        (said,) = figure["layout"]["annotations"]
        assert said["text"] == "There are none of the best setting as it is now."


def test_a_database_without_its_artifacts_still_shows_them(
    compared: Study, tmp_path: Path
) -> None:
    update_dashboard(compared)
    before = figures_of(compared)
    shutil.rmtree(tmp_path / "tiny_artifacts")
    with pytest.warns(UserWarning, match="not put into the dashboard: there is no artifact "):
        update_dashboard(compared)
    assert figures_of(compared) == before


def test_who_has_the_storage_from_a_proxy_leaves_them(
    compared: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_dashboard(compared)
    before = figures_of(compared)
    monkeypatch.setattr(retraining, "artifact_directory", lambda storage: None)
    with pytest.warns(UserWarning, match="this storage has no folder of artifacts"):
        update_dashboard(compared)
    assert figures_of(compared) == before


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
