"""What the studies gain over the usual setting: runs them, and writes ``results/gains.json``.

Digits alone, and with it CUB-200 and Oxford Flowers-102, head-only::

    python benchmarks/gains.py
    python benchmarks/gains.py --cub DIR --flowers DIR --weights FILE

DIR are the folders of the data sets, Flowers-102 by class; FILE are weights of
tf_efficientnet_lite0. The search on CUB is also drawn, which needs kaleido and Chromium.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import optuna
from record import RESULTS
from record import write_record
from tables import rst_table

from cbal_optuna import summarize
from cbal_optuna.interval import Interval
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.report import search_path
from cbal_optuna.retraining import SettingComparison


STUDIES = Path(__file__).parents[1] / "studies"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, metavar="DIR")
    parser.add_argument("--flowers", type=Path, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="FILE")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="studies at a time")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(options.jobs) as jobs,
    ):
        wanted = [(*study, Path(folder) / study[0]) for study in studies(options)]
        results = list(jobs.map(lambda study: run(*study), wanted))
        if options.cub:
            draw(Path(folder) / "cub200" / "cub200.db")
    write_record(RESULTS / "gains.json", results)
    print(readme_table(results))


def studies(options: argparse.Namespace) -> Iterator[tuple[str, str, list[str]]]:
    """Name, script and arguments of each study."""
    yield "digits", "digits", ["--final"]
    frozen = ["--backbone", "tf_efficientnet_lite0", "--weights", str(options.weights)]
    frozen += ["--head-only", "--n-trials", "25", "--final"]
    short = ["--samples", "10000"]
    if options.cub:
        cub = ["--root", str(options.cub), "--image-size", "128", *frozen]
        yield "cub200", "cub200", cub
        yield "cub200-short", "cub200", [*cub, *short]
        yield "cub200-margin", "cub200", [*cub, "--loss", "margin"]
    if options.flowers:
        flowers = ["--root", str(options.flowers), "--image-size", "64", *frozen]
        yield "flowers", "image_folder", flowers
        yield "flowers-short", "image_folder", [*flowers, *short]


def run(name: str, script: str, arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run a study in a folder, and read what it found from its database."""
    folder.mkdir()
    command = [sys.executable, STUDIES / f"{script}.py", *arguments, "--study-name", name]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    seconds = time.perf_counter() - start
    storage = f"sqlite:///{folder}/{script}.db"
    study = optuna.load_study(study_name=name, storage=storage)
    summary = summarize(study)
    assert summary.usual is not None
    return {
        "study": name,
        "objective": study.user_attrs["objective"],
        "seconds": round(seconds, 1),
        "trials": len(study.trials),
        "usual": {"params": summary.usual.params, "value": summary.usual.value},
        "best": {"params": summary.recommended.params, "value": summary.recommended.value},
        "fresh_seeds": [
            fresh_seeds(storage, name, classes, summary.usual.params, summary.recommended.params)
            for classes in ("validation", "test")
        ],
    }


def fresh_seeds(
    storage: str, name: str, classes: str, usual: dict[str, Any], best: dict[str, Any]
) -> dict[str, Any]:
    """The comparison on these classes, read from the study that keeps it."""
    trials = optuna.load_study(study_name=f"{name}.{classes}", storage=storage).trials
    seeds = tuple(dict.fromkeys(t.user_attrs["seed"] for t in trials))

    def values(params: dict[str, Any]) -> dict[str, np.ndarray]:
        own = [t.user_attrs for t in trials if t.params == params]
        return {
            m: np.array([attributes[m] for attributes in own])
            for m in RetrievalObjective.measures(classes)
        }

    compared = SettingComparison(classes, seeds, values(usual), values(best))
    return {"classes": classes, **intervals_of(compared)}


def intervals_of(compared: SettingComparison) -> dict[str, Any]:
    """Means and half widths of the 95 % intervals, by metric."""
    return {
        "seeds": compared.seeds,
        "metrics": {
            metric: {
                "usual": rounded(compared.mean("usual", metric)),
                "best": rounded(compared.mean("best", metric)),
                "difference": rounded(compared.difference(metric)),
            }
            for metric in compared.usual
        },
    }


def rounded(interval: Interval) -> list[float]:
    return [round(interval.mean, 5), round(interval.half_width, 5)]


def readme_table(results: list[dict[str, Any]]) -> str:
    """MAP@R on fresh seeds as a table in reStructuredText."""
    rows = [["Study", "Classes", "Usual", "Best", "Difference", "Gain"]]
    for result in results:
        for compared in result["fresh_seeds"]:
            cells = gain_cells(compared["metrics"]["map_at_r"])
            rows.append([result["study"], compared["classes"], *cells])
    return rst_table(rows)


def gain_cells(intervals: dict[str, list[float]]) -> list[str]:
    """Usual, best, difference and gain, as a table shows them."""
    gain = intervals["difference"][0] / intervals["usual"][0]
    return [*(f"{mean:.3f} ± {half:.3f}" for mean, half in intervals.values()), f"{gain:+.1%}"]


def draw(database: Path) -> None:
    study = optuna.load_study(study_name="cub200", storage=f"sqlite:///{database}")
    figure = search_path(study)
    figure.update_layout(template="plotly_white", font_color="#333", paper_bgcolor="white")
    figure.write_image(RESULTS / "cub200_search.png", width=900, height=520, scale=2)


if __name__ == "__main__":
    main()
