"""Time of the InfoNCE losses by temperature: ``results/loss_temperatures.json``. In a minute::

    OMP_NUM_THREADS=1 python benchmarks/loss_temperatures.py

A pass is forward and backward. Embeddings fill few dimensions, as trained ones do, so that their
similarities are anywhere from -1 to 1: those of the lowest, divided by a low temperature, have
exponentials so small that a processor takes many times as long for them. All losses take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
import statistics
from typing import Any

from loss_peers import of_labels
from loss_peers import plain_infonce
from loss_peers import random_batch
from loss_peers import SUPCON
from losses import seconds_of
from pytorch_metric_learning.losses import SupConLoss
from record import RESULTS
from record import write_record
from tables import rst_table
import torch
from torch import Tensor

from cbal_optuna import SplitInfoNCELoss


TEMPERATURES = (0.005, 0.01, 0.02, 0.05, 0.1, 1.0)
SIZES = (128, 512, 2048)
DIMENSIONS = 8
ROUNDS = 9

LOSSES: dict[str, Callable[[float], Callable[[Tensor, Tensor], Tensor]]] = {
    "SplitInfoNCELoss": lambda t: SplitInfoNCELoss(balance=1.0, temperature=t),
    SUPCON: SupConLoss,
    "plain InfoNCE": lambda t: partial(plain_infonce, temperature=t),
}


def rows() -> Iterator[dict[str, Any]]:
    for n in SIZES:
        batch = random_batch(n, DIMENSIONS, torch.float32, "cpu")
        steps = {
            (name, t): of_labels(loss(t)) for name, loss in LOSSES.items() for t in TEMPERATURES
        }
        seconds: dict[tuple[str, float], list[float]] = {key: [] for key in steps}
        for _ in range(ROUNDS):
            for key, step in steps.items():
                seconds[key].append(seconds_of(step, batch))
        for (name, temperature), own in seconds.items():
            median = round(1e3 * statistics.median(own), 4)
            yield {"n": n, "loss": name, "temperature": temperature, "median_ms": median}


def main() -> None:
    results = list(rows())
    write_record(RESULTS / "loss_temperatures.json", results, ["pytorch-metric-learning"])
    table = [["Milliseconds", *map(str, TEMPERATURES)]]
    for n in SIZES:
        for name in LOSSES:
            own = [r["median_ms"] for r in results if (r["n"], r["loss"]) == (n, name)]
            table.append([f"{name}, n = {n}", *(f"{ms:.2f}" for ms in own)])
    print(rst_table(table))


if __name__ == "__main__":
    main()
