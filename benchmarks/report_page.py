"""Weight of a report, and how long a browser takes to show it: ``results/report_page.json``.

::

    python benchmarks/report_page.py --cub DIR --weights FILE

DIR is the folder of CUB-200, FILE has the weights of ``tf_efficientnet_lite0``. A head-only study
of 30 short trainings, both settings trained once more for the test, and its report with and
without pictures of the embeddings, on a desk and on a phone: medians of the time from the
navigation to the load event, by which all figures are drawn. Chromium without a GPU, driven by
Playwright, on one page at a time. ``pictures`` is how long the pictures of one training take to
make, and how large its artifacts are; ``dashboard`` how many characters optuna-dashboard's figures
have in the database, and how long they and the note take to be made current.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import shutil
import statistics
from tempfile import TemporaryDirectory
import time
from typing import Any

from optuna.study import Study
from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs
from record import RESULTS
from record import write_record

from cbal_optuna.artifacts import artifact_directory
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.data import CUB200
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import TEST
from cbal_optuna.report import write_report
from cbal_optuna.retraining import compare_settings
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.summary import summarize
from cbal_optuna.training import TrainingOptions


PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SCREENS = {"desk": (1300, 900), "phone": (375, 800)}
N_TRIALS = 30
FIGURE = "dashboard:plot_data:cbal-"
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    options = parser.parse_args()
    objective = RetrievalObjective(
        CUB200(options.cub),
        backbone="tf_efficientnet_lite0",
        weights=options.weights,
        image_size=128,
        head_only=True,
        training=TrainingOptions(samples=6_000),
    )
    with TemporaryDirectory() as directory, browser() as chromium:
        reports, made, dashboard = written(objective, Path(directory), options.rounds)
        results = {
            "library_bytes": len(get_plotlyjs().encode()),
            "reports": {
                name: {
                    "bytes": path.stat().st_size,
                    "load_seconds": {
                        screen: seconds_to_load(chromium, path, size, options.rounds)
                        for screen, size in SCREENS.items()
                    },
                }
                for name, path in reports.items()
            },
            "pictures": made,
            "dashboard": dashboard,
        }
    write_record(RESULTS / "report_page.json", results, ["plotly", "playwright"])
    print(results)


def written(
    objective: RetrievalObjective, directory: Path, rounds: int
) -> tuple[dict[str, Path], dict[str, Any], dict[str, Any]]:
    """Reports by name, what the pictures took, and what the dashboard takes."""
    storage = open_storage(f"sqlite:///{directory}/cub.db")
    study = open_study("cub", storage, objective, "cd", 0)
    run_trials(study, objective, N_TRIALS)
    usual = objective.space.searched(objective.space.usual)
    best = summarize(study).recommended.params
    compared = compare_settings(objective, storage, "cub", usual, best, part=TEST, n_seeds=1)
    reports: dict[str, SettingComparison] = {
        "without pictures": replace(compared, pictures=None),
        "with pictures": compared,
    }
    paths = {name: directory / f"{name}.html" for name in reports}
    for name, path in paths.items():
        write_report(path, study, [reports[name]])
    artifacts = artifact_directory(storage)
    assert artifacts is not None
    n_bytes = sum(path.stat().st_size for path in artifacts.iterdir()) // 2
    made = {"seconds": seconds_of_pictures(objective), "artifact_bytes": n_bytes}
    return paths, made, dashboard_of(study, rounds)


def dashboard_of(study: Study, rounds: int) -> dict[str, Any]:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        update_dashboard(study)
        taken.append(time.perf_counter() - start)
    figures = {
        key.removeprefix(FIGURE).partition(":")[0]: len(text)
        for key, text in study._storage.get_study_system_attrs(study._study_id).items()
        if key.startswith(FIGURE)
    }
    return {"characters": figures, "update_seconds": round(statistics.median(taken), 2)}


def seconds_of_pictures(objective: RetrievalObjective) -> float:
    """Of a training with pictures, less that of one without."""
    division = objective.divisions(TEST)[0]
    taken = []
    for pictured in (False, True):
        start = time.perf_counter()
        objective.run(objective.space.start, *division, seed=0, pictured=pictured)
        taken.append(time.perf_counter() - start)
    return round(taken[1] - taken[0], 2)


@contextmanager
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit("there is no Chromium: install it")
    with sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


def seconds_to_load(chromium: Any, path: Path, size: tuple[int, int], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        page = chromium.new_page(viewport={"width": size[0], "height": size[1]})
        page.goto(path.as_uri())
        page.wait_for_function(f"{LOADED} > 0")
        taken.append(page.evaluate(LOADED) / 1e3)
        page.close()
    return round(statistics.median(taken), 2)


if __name__ == "__main__":
    main()
