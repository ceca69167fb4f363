"""optuna-dashboard's API answers on a study of this package, and shows what one looks for."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

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


def get(application: Callable[..., Any], path: str, query: str = "") -> Any:
    """A GET request to a WSGI application."""
    environment: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query}
    setup_testing_defaults(environment)
    statuses: list[str] = []
    answer = application(environment, lambda status, *_: statuses.append(status))
    body = b"".join(answer)
    assert statuses[0].startswith("200"), statuses
    return json.loads(body)
