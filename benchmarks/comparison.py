"""How samplers search on real trainings: ``results/comparison_digits.json`` and ``.png``, with
``--cub`` and ``--weights`` also ``results/comparison_cub200.*``.

::

    OMP_NUM_THREADS=1 python benchmarks/comparison.py --work-dir DIR --cub DIR --weights FILE

``studies/compare.py`` on digits end to end, and on CUB-200 with the frozen backbone whose weights
are given: five seeds, 40 trials, about an hour on two cores. What is done stays in the work
folder; the same command goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
import subprocess
import sys
from typing import Any

import pandas as pd
from record import RESULTS
from record import write_record
from tables import rst_table

from cbal_optuna.comparison import SamplerComparison
from cbal_optuna.report import best_so_far
from cbal_optuna.report.comparison import shown_table


COMPARE = Path(__file__).parents[1] / "studies" / "compare.py"
COMMON = ["--samplers", "cd", "tpe", "random", "gp", "--seeds", "5", "--n-trials", "40"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cub", type=Path, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of tf_efficientnet_lite0")
    parser.add_argument("--jobs", default="2", metavar="N")
    options = parser.parse_args()
    options.work_dir.mkdir(exist_ok=True)
    for study, arguments in comparisons(options):
        command = [sys.executable, str(COMPARE), study, *arguments, *COMMON]
        subprocess.run([*command, "--jobs", options.jobs], cwd=options.work_dir, check=True)
        trials = pd.read_csv(options.work_dir / f"compare-{study}" / "trials.csv")
        write_results(study, arguments, SamplerComparison(trials, maximizes=True))


def comparisons(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Studies and their arguments."""
    yield "digits", ["--samples", "5000"]
    if options.cub and options.weights:
        frozen = ["--backbone", "tf_efficientnet_lite0", "--weights", str(options.weights)]
        data = ["--root", str(options.cub), "--image-size", "128"]
        yield "cub200", [*data, *frozen, "--head-only"]


def write_results(study: str, arguments: list[str], comparison: SamplerComparison) -> None:
    table = shown_table(comparison)
    results: dict[str, Any] = {
        "study": study,
        "arguments": [Path(argument).name for argument in arguments],
        "table": comparison.table().reset_index().to_dict("records"),
        "trials_to_target": comparison.trials_to_target().to_dict(),
        "best": {
            sampler: comparison.best[sampler].round(5).to_dict("list")
            for sampler in comparison.samplers
        },
    }
    write_record(RESULTS / f"comparison_{study}.json", results)
    figure = best_so_far(comparison)
    figure.update_layout(template="plotly_white", font_color="#333", paper_bgcolor="white")
    figure.write_image(RESULTS / f"comparison_{study}.png", width=1200, height=460, scale=2)
    rows = [
        [study, *table.columns],
        *([name, *row] for name, row in zip(table.index, table.to_numpy())),
    ]
    print(rst_table(rows))


if __name__ == "__main__":
    main()
