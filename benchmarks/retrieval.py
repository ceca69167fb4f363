"""Time and memory of retrieval metrics, against pytorch-metric-learning's AccuracyCalculator with
faiss: ``results/retrieval.json``.

::

    OMP_NUM_THREADS=2 python benchmarks/retrieval.py

A few minutes, and 7 GB of memory for the peer. Recall@1, R-precision and MAP@R of random
embeddings around class centres, each item searching all others; interleaved in one process, memory
in a process of its own. ``requirements-losses.txt`` has what is needed besides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import statistics
import time
from typing import Any

from peak_memory import in_own_process
from peak_memory import measured
from peak_memory import Pass
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from record import RESULTS
from record import write_record
from tables import rst_table
import torch
from torch import Tensor

from cbal_optuna.evaluation import retrieval_metrics


DIMENSIONS = 128
# Items, classes, repetitions: as in the test halves of CUB and of Stanford Online Products.
SIZES = ((6_000, 100, 7), (60_000, 12_000, 3))


def ours(embeddings: Tensor, labels: Tensor) -> tuple[float, float, float]:
    metrics = retrieval_metrics(embeddings, labels, ks=(1,))
    return metrics.recall[1], metrics.r_precision, metrics.map_at_r


def accuracy_calculator(embeddings: Tensor, labels: Tensor) -> tuple[float, float, float]:
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    found = calculator.get_accuracy(embeddings, labels)
    return found[names[0]], found[names[1]], found[names[2]]


CONTENDERS: dict[str, Callable[[Tensor, Tensor], tuple[float, float, float]]] = {
    "retrieval_metrics": ours,
    "AccuracyCalculator, faiss": accuracy_calculator,
}


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    results = [compared(*size) for size in SIZES]
    write_record(RESULTS / "retrieval.json", results, ["pytorch-metric-learning", "faiss-cpu"])
    print(table(results))


def compared(n: int, n_classes: int, repetitions: int) -> dict[str, Any]:
    batch = embeddings_of_classes(n, n_classes)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    metrics = {}
    for _ in range(repetitions):
        for name, contender in CONTENDERS.items():
            start = time.perf_counter()
            metrics[name] = contender(*batch)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: round(statistics.median(own), 3) for name, own in seconds.items()}
    own, peer = medians.values()
    return {
        "items": n,
        "classes": n_classes,
        "repetitions": repetitions,
        "median_seconds": medians,
        "times_faster": round(peer / own, 2),
        "peak_mb": {name: round(memory_of(name, n, n_classes).peak_mb) for name in CONTENDERS},
        "metrics": {name: [round(float(x), 6) for x in found] for name, found in metrics.items()},
    }


def embeddings_of_classes(n: int, n_classes: int) -> tuple[Tensor, Tensor]:
    """Embeddings (n, d) of length about 1, and their labels (n,)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % n_classes
    centres = torch.randn(n_classes, DIMENSIONS, generator=generator)
    noise = torch.randn(n, DIMENSIONS, generator=generator)
    return torch.nn.functional.normalize(centres[labels] + 2.0 * noise), labels


def memory_of(name: str, n: int, n_classes: int) -> Pass:
    preload = ["pytorch_metric_learning.utils.accuracy_calculator", "faiss"]
    return in_own_process(_measured, name, n, n_classes, preload=preload)


def _measured(name: str, n: int, n_classes: int) -> Pass:
    contender = CONTENDERS[name]
    contender(*embeddings_of_classes(64, 16))
    batch = embeddings_of_classes(n, n_classes)
    return measured(lambda: contender(*batch))


def table(results: list[dict[str, Any]]) -> str:
    rows = [["Items x classes", *(f"{name}, s / MB" for name in CONTENDERS), "Times faster"]]
    for row in results:
        cells = [f"{row['median_seconds'][k]:.2f} / {row['peak_mb'][k]}" for k in CONTENDERS]
        rows.append([f"{row['items']} x {row['classes']}", *cells, f"{row['times_faster']:.1f}"])
    return rst_table(rows)


if __name__ == "__main__":
    main()
