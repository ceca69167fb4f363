"""What ``torch.compile`` gains in a training on a CPU, and when: ``results/compiling.json``.

::

    python benchmarks/compiling.py --cub DIR

DIR is the folder of CUB-200. The bound of ``training.py``, forward, loss, backward and optimizer
step alone, with the model as it is and compiled, in turns on two cores. The first step of the
latter compiles, with nothing in torch's cache of compiled code, and needs a C++ compiler;
``steps_to_pay`` is after how many steps it has been worth its time, none where the compiled model
is no faster. A trial that searches ``batch_size`` compiles once for each, and a worker for itself.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import statistics
from tempfile import TemporaryDirectory
import time
from typing import Any

from record import RESULTS
from record import write_record
from tables import rst_table
import torch
from training_cases import Case
from training_cases import CASES
from training_cases import CORES
from training_cases import regime_of
from training_contenders import bound

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna.data import CUB200
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import LabelledImages


COMPILED = ("small", "ResNet-50")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cub", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(CORES)
    dataset = CUB200(options.cub)
    results = []
    for case in CASES:
        if case.name in COMPILED:
            with TemporaryDirectory() as directory:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = directory
                results.append(compared(case, dataset, options.rounds))
    write_record(RESULTS / "compiling.json", results)
    print(table(results))


def compared(case: Case, dataset: LabelledImages, rounds: int) -> dict[str, Any]:
    regime = regime_of(case, dataset, torch.device("cpu"), default_cache_directory())
    plain = bound(case, dataset, regime, SplitInfoNCELoss())
    compiled = bound(case, dataset, regime, SplitInfoNCELoss(), compiled=True)
    start = time.perf_counter()
    compiled(1)
    to_compile = time.perf_counter() - start
    plain(1)
    seconds: list[tuple[float, float]] = []
    for _ in range(rounds):
        times = []
        for steps in (plain, compiled):
            start = time.perf_counter()
            steps(case.steps)
            times.append((time.perf_counter() - start) / case.steps)
        seconds.append((times[0], times[1]))
    of_plain, of_compiled = map(statistics.median, zip(*seconds))
    gained = of_plain - of_compiled
    return {
        "case": case.name,
        "backbone": case.backbone,
        "image_size": case.image_size,
        "batch_size": case.batch_size,
        "milliseconds_per_step": round(1e3 * of_plain, 1),
        "milliseconds_per_compiled_step": round(1e3 * of_compiled, 1),
        "times_faster": round(of_plain / of_compiled, 2),
        "seconds_to_compile": round(to_compile, 1),
        "steps_to_pay": round(to_compile / gained) if gained > 0 else None,
    }


def table(results: list[dict[str, Any]]) -> str:
    rows = [["Training", "ms a step", "Compiled", "Times faster", "Compiling, s", "Pays after"]]
    for row in results:
        rows.append(
            [
                f"{row['backbone']}, {row['image_size']} px, batch {row['batch_size']}",
                f"{row['milliseconds_per_step']}",
                f"{row['milliseconds_per_compiled_step']}",
                f"{row['times_faster']}",
                f"{row['seconds_to_compile']}",
                f"{row['steps_to_pay']} steps" if row["steps_to_pay"] else "never",
            ]
        )
    return rst_table(rows)


if __name__ == "__main__":
    main()
