"""What the studies gain over the usual setting: runs them, writes every figure of the README.

Digits alone, and with it CUB-200 and Oxford Flowers-102, head-only::

    python benchmarks/gains.py
    python benchmarks/gains.py --cub DIR --flowers DIR --weights FILE

DIR are the folders of the data sets, Flowers-102 by class; FILE are weights of
tf_efficientnet_lite0. The search on CUB is also drawn, which needs kaleido and Chromium.
"""

from __future__ import annotations

import argparse
from datetime import date
from importlib.metadata import version
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import optuna

from cbal_optuna import summarize
from cbal_optuna.report import search_path
from cbal_optuna.retraining import Interval
from cbal_optuna.retraining import METRICS
from cbal_optuna.retraining import SettingComparison


ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("optuna", "torch", "timm", "numpy", "scikit-learn")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, metavar="DIR")
    parser.add_argument("--flowers", type=Path, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [run(name, command, Path(folder)) for name, command in commands(options)]
        if options.cub:
            draw(Path(folder) / "cub200.db")
    record = {"machine": machine(), "date": date.today().isoformat(), "studies": results}
    (RESULTS / "gains.json").write_text(json.dumps(record, indent=1) + "\n")


def commands(options: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """The name of each study, and the arguments of its script."""
    frozen = ["--backbone", "tf_efficientnet_lite0", "--head-only", "--n-trials", "25", "--final"]
    frozen += ["--weights", str(options.weights)]
    found = [("digits", ["digits.py", "--final"])]
    if options.cub:
        cub = ["cub200.py", "--root", str(options.cub), *frozen, "--image-size", "128"]
        found += [("cub200", cub), ("cub200-margin", [*cub, "--loss", "margin"])]
    if options.flowers:
        own = ["--root", str(options.flowers), "--image-size", "64"]
        found.append(("image_folder", ["image_folder.py", *own, *frozen]))
    return found


def run(name: str, arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run a study in a folder, and read what it found from its database."""
    start = time.perf_counter()
    script, *rest = arguments
    subprocess.run([sys.executable, ROOT / "studies" / script, *rest], cwd=folder, check=True)
    seconds = time.perf_counter() - start
    storage = f"sqlite:///{folder}/{Path(script).stem}.db"
    study = optuna.load_study(study_name=name, storage=storage)
    summary = summarize(study)
    assert summary.usual is not None
    shown = [Path(a).name if a.startswith(os.sep) else a for a in arguments]
    return {
        "study": name,
        "command": " ".join(["python", f"studies/{shown[0]}", *shown[1:]]),
        "seconds": round(seconds, 1),
        "trials": len(study.trials),
        "objective": study.user_attrs["objective"],
        "usual": {"params": summary.usual.params, "value": summary.usual.value},
        "best": {"params": summary.best.params, "value": summary.best.value},
        "fresh_seeds": [
            comparison(storage, name, classes, summary.usual.params, summary.best.params)
            for classes in ("validation", "test")
        ],
    }


def comparison(
    storage: str, name: str, classes: str, usual: dict[str, Any], best: dict[str, Any]
) -> dict[str, Any]:
    """Means and half widths of the 95 % intervals, by metric."""
    trials = optuna.load_study(study_name=f"{name}.{classes}", storage=storage).trials
    seeds = tuple(dict.fromkeys(t.user_attrs["seed"] for t in trials))

    def values(params: dict[str, Any]) -> dict[str, np.ndarray]:
        own = [t.user_attrs for t in trials if t.params == params]
        return {m: np.array([attributes[m] for attributes in own]) for m in METRICS}

    compared = SettingComparison(classes, seeds, values(usual), values(best))
    return {
        "classes": classes,
        "seeds": seeds,
        "metrics": {
            metric: {
                "usual": rounded(compared.mean("usual", metric)),
                "best": rounded(compared.mean("best", metric)),
                "difference": rounded(compared.difference(metric)),
            }
            for metric in METRICS
        },
    }


def rounded(interval: Interval) -> list[float]:
    return [round(interval.mean, 5), round(interval.half_width, 5)]


def draw(database: Path) -> None:
    study = optuna.load_study(study_name="cub200", storage=f"sqlite:///{database}")
    figure = search_path(study)
    figure.update_layout(template="plotly_white", font_color="#333", paper_bgcolor="white")
    figure.write_image(RESULTS / "cub200_search.png", width=900, height=520, scale=2)


def machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def processor() -> str:
    """The processor's name, on Linux; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
