"""Time and memory of the losses at all batch sizes, and the accuracy of their gradients, into
``results/losses.csv``, ``losses.json`` and ``losses.png``, on a GPU ``losses_cuda.*``.

Up to n = 1,024 and d = 128 in a minute, all in a quarter of an hour, and on a GPU::

    OMP_NUM_THREADS=2 python benchmarks/losses.py --quick
    OMP_NUM_THREADS=2 python benchmarks/losses.py
    python benchmarks/losses.py --device cuda

On Linux. Beside the package's own, the packages of ``requirements-losses.txt`` are needed.

A pass is forward and backward. All losses get the same embeddings, 4 per class (2 for lightly's,
which know no classes), and take turns in one process, in random order. Quick ones take more turns,
and slow ones are spread among them. Memory is the peak beyond the embeddings. The bound of the
time is that of the matrix products alone, of 2 n^2 d operations each: 3 for InfoNCE and 2 for the
margin loss, as many as forward and backward take by blocks of rows. Who uses the symmetry of the
similarities takes 2 and 1.5, so that the ratio to the bound may be below 1.

Threads of a pass wait for one another, and other work on the machine makes them wait long: medians
mean little where the load (a column) is above the number of threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
import os
from pathlib import Path
import random
import statistics
import time
from typing import Any
from typing import NamedTuple

from loss_accuracy import accuracy_rows
from loss_accuracy import BATCHES
from loss_accuracy import QUICK_BATCHES
from loss_figures import draw
from loss_memory import available_mb
from loss_memory import first_pass
from loss_peers import Batch
from loss_peers import CONTENDERS
from loss_peers import random_batch
from loss_peers import Step
from loss_summary import bound_rows
from loss_summary import readme_tables
from loss_summary import summary_rows
from peak_memory import Killed
from peak_memory import Pass
from record import RESULTS
from record import write_record
from tables import read_csv
from tables import write_csv
import torch


RUNS = RESULTS.parent / "runs"
LARGEST = {"cpu": 16_384, "cuda": 262_144}
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.bfloat16)}
MOST_TURNS = 200
# Of what is available.
MEMORY_SHARE = 0.5

Row = dict[str, Any]


class Seconds(NamedTuple):
    """How long things may take.

    Attributes:
        turns: All turns of a loss at one n. It has at least 3, or 2 of more than half of `one`.
        one: A pass of a peer, unless it is the fastest of its kind.
    """

    turns: float
    one: float


class Setting(NamedTuple):
    """What is the same at every n."""

    device: str
    dtype: torch.dtype
    d: int
    limits: Seconds

    def columns(self) -> Row:
        dtype = str(self.dtype).removeprefix("torch.")
        return {"device": self.device, "dtype": dtype, "d": self.d}


SECONDS = {"cpu": Seconds(1.5, 12), "cuda": Seconds(0.3, 12)}
QUICK_SECONDS = Seconds(0.5, 3)


def main() -> None:
    options = parsed()
    start = time.perf_counter()
    path = options.results / ("losses_cuda" if options.device == "cuda" else "losses")
    if options.redraw:
        draw_rows(read_csv(path.with_suffix(".csv")), path)
        return
    rows = list(measured_rows(options))
    accuracy = list(accuracy_rows(QUICK_BATCHES if options.quick else BATCHES, options.device))
    summary = list(summary_rows(rows))
    results = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - start),
        "summary": summary,
        "left_out": [
            {key: row[key] for key in ("dtype", "d", "n", "loss", "left_out")}
            for row in rows
            if row["left_out"]
        ],
        "accuracy": accuracy,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path.with_suffix(".csv"), rows)
    write_record(path.with_suffix(".json"), results, ("lightly", "pytorch-metric-learning"))
    print("\n\n".join(readme_tables(rows, summary, accuracy)))
    draw_rows(rows, path)


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    draw(rows, list(bound_rows(rows)), path.with_suffix(".png"))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dimensions", type=int, nargs="+", metavar="D")
    parser.add_argument("--largest", type=int, metavar="N", help="the largest batch size")
    parser.add_argument(
        "--quick", action="store_true", help="n up to 1,024, d = 128, into benchmarks/runs/quick"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="default: benchmarks/results")
    parser.add_argument("--redraw", action="store_true", help="only the figure, from the CSV file")
    options = parser.parse_args()
    options.dimensions = options.dimensions or ([128] if options.quick else [128, 512])
    options.largest = options.largest or (1024 if options.quick else LARGEST[options.device])
    options.results = options.results or (RUNS / "quick" if options.quick else RESULTS)
    return options


def measured_rows(options: argparse.Namespace) -> Iterator[Row]:
    limits = QUICK_SECONDS if options.quick else SECONDS[options.device]
    sizes = [n for n in (2**k for k in range(7, 19)) if n <= options.largest]
    for dtype, d in itertools.product(DTYPES[options.device], options.dimensions):
        setting = Setting(options.device, dtype, d, limits)
        past: dict[str, tuple[int, Pass]] = {}
        for n in sizes:
            print(f"{dtype}, d = {d}, n = {n}", flush=True)
            yield from rows_at(n, setting, past)


def rows_at(n: int, setting: Setting, past: dict[str, tuple[int, Pass]]) -> Iterator[Row]:
    """All losses at one n.

    Args:
        past: By name, the last n that a loss was measured at, and what it took; is updated.
    """
    memory_mb = MEMORY_SHARE * available_mb(setting.device)
    left_out = reasons_against(expectations(past, n), memory_mb, setting.limits)
    taken = first_passes(n, setting, left_out)
    batch = random_batch(n, setting.d, setting.dtype, setting.device)
    seconds = timed(taken, batch, setting.limits)
    load = round(os.getloadavg()[0], 2)
    for contender in CONTENDERS:
        name = contender.name
        row = {**setting.columns(), "n": n, "loss": name}
        row |= {"by": contender.by, "kind": contender.kind, **time_columns(seconds.get(name, []))}
        row["peak_extra_mb"] = round(taken[name].peak_mb, 2) if name in taken else None
        row |= {"left_out": left_out.get(name), "load": load}
        if name in taken:
            past[name] = (n, Pass(row["minimum_ms"] / 1e3, taken[name].peak_mb))
        yield row


def first_passes(n: int, setting: Setting, left_out: dict[str, str]) -> dict[str, Pass]:
    """Of all that are not left out, to which those are added that fail for lack of memory."""
    taken = {}
    for contender in CONTENDERS:
        if contender.name not in left_out:
            try:
                taken[contender.name] = first_pass(
                    contender, n, setting.d, setting.dtype, setting.device
                )
            except (Killed, torch.OutOfMemoryError):
                left_out[contender.name] = "out of memory"
    return taken


def expectations(past: Mapping[str, tuple[int, Pass]], n: int) -> dict[str, Pass]:
    """What losses would take at n."""
    exponents = {contender.name: contender.exponent for contender in CONTENDERS}
    growth = {name: (n / last) ** exponents[name] for name, (last, _) in past.items()}
    return {
        name: Pass(growth[name] * taken.seconds, growth[name] * taken.peak_mb)
        for name, (_, taken) in past.items()
    }


def reasons_against(
    expected: Mapping[str, Pass], memory_mb: float, limits: Seconds
) -> dict[str, str]:
    """Why losses are left out: too much memory, or slow where a peer of their kind is faster."""
    reasons = {
        name: f"needs about {taken.peak_mb / 1e3:.0f} GB"
        for name, taken in expected.items()
        if taken.peak_mb > memory_mb
    }
    peers = [c for c in CONTENDERS if c.by == "peer" and c.name in expected.keys() - reasons]
    for kind in ("InfoNCE", "margin"):
        seconds = {peer.name: expected[peer.name].seconds for peer in peers if peer.kind == kind}
        for name, own in seconds.items():
            if own > max(limits.one, min(seconds.values())):
                reasons[name] = f"takes about {own:.0f} s"
    return reasons


def timed(taken: Mapping[str, Pass], batch: Batch, limits: Seconds) -> dict[str, list[float]]:
    """Seconds of each pass."""
    steps = {c.name: c.step for c in CONTENDERS if c.name in taken}
    turns = {name: turns_of(step, batch, taken[name], limits) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for name in order_of_turns(turns):
        seconds[name].append(seconds_of(steps[name], batch))
    return seconds


def turns_of(step: Step, batch: Batch, first: Pass, limits: Seconds) -> int:
    """Quick passes are tried again, as the first of a process is slow."""
    fewest = 2 if first.seconds > limits.one / 2 else 3
    tries = min(int(limits.turns / first.seconds / 3), 10)
    expected = min([first.seconds, *(seconds_of(step, batch) for _ in range(tries))])
    return min(max(int(limits.turns / expected), fewest), MOST_TURNS)


def seconds_of(step: Step, batch: Batch) -> float:
    synchronize(batch)
    start = time.perf_counter()
    step(batch)
    synchronize(batch)
    return time.perf_counter() - start


def order_of_turns(turns: Mapping[str, int]) -> Iterator[str]:
    """Rounds in random order, each loss in as many of them as it has turns, evenly spread."""
    shuffled = random.Random(0)
    rounds = max(turns.values())
    for i in range(rounds):
        due = [name for name, n in turns.items() if (i + 1) * n // rounds > i * n // rounds]
        shuffled.shuffle(due)
        yield from due


def synchronize(batch: Batch) -> None:
    if batch.embeddings.is_cuda:
        torch.cuda.synchronize()


def time_columns(seconds: Sequence[float]) -> Row:
    if not seconds:
        return {"turns": 0, **dict.fromkeys(("median_ms", "q1_ms", "q3_ms", "minimum_ms"))}
    first, middle, third = statistics.quantiles(seconds, method="inclusive")
    times = {"median_ms": middle, "q1_ms": first, "q3_ms": third, "minimum_ms": min(seconds)}
    return {"turns": len(seconds), **{key: round(1e3 * s, 4) for key, s in times.items()}}


if __name__ == "__main__":
    main()
