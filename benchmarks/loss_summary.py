"""What the measurements say: our losses against their peers and the bound."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import itertools
from operator import itemgetter
from typing import Any

from loss_peers import SUPCON
from tables import rst_table


# Matrix products that forward and backward need.
PRODUCTS = {"InfoNCE": 3, "margin": 2}

Row = dict[str, Any]


def bound_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """The time of the matrix products alone, by kind of loss."""
    for row in rows:
        if row["by"] == "bound":
            for kind, number in PRODUCTS.items():
                name = f"{number} matrix products"
                yield {**row, "loss": name, "kind": kind, "median_ms": number * row["median_ms"]}


def summary_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """Ratios of medians of time, and of memory, of our losses to those named in each row.

    `fastest` is among the peers of the same kind, `fastest_of_all` and `smallest` among all; None
    where none is left. `to_fastest_minima` is the ratio of the shortest times to `fastest`, which
    other work on the machine disturbs less.
    """
    bounds = {(*setting(row), row["kind"]): row["median_ms"] for row in bound_rows(rows)}
    for here, group in itertools.groupby(rows, setting):
        measured = [row for row in group if row["median_ms"] is not None]
        peers = {row["loss"]: row for row in measured if row["by"] == "peer"}
        for own in measured:
            if own["by"] == "ours":
                bound = bounds[(*here, own["kind"])]
                yield compared(own, peers, bound)


def setting(row: Row) -> tuple[str, int, int]:
    return row["dtype"], row["d"], row["n"]


def compared(own: Row, peers: dict[str, Row], bound: float) -> Row:
    of_kind = [peer for peer in peers.values() if peer["kind"] == own["kind"]]
    fastest = min(of_kind, key=itemgetter("median_ms"), default={})
    fastest_of_all = min(peers.values(), key=itemgetter("median_ms"), default={})
    smallest = min(peers.values(), key=itemgetter("peak_extra_mb"), default={})
    return {
        **{key: own[key] for key in ("dtype", "d", "n", "loss", "median_ms", "peak_extra_mb")},
        "fastest": fastest.get("loss"),
        "to_fastest": ratio(own, fastest, "median_ms"),
        "to_fastest_minima": ratio(own, fastest, "minimum_ms"),
        "fastest_of_all": fastest_of_all.get("loss"),
        "to_fastest_of_all": ratio(own, fastest_of_all, "median_ms"),
        "to_supcon": ratio(own, peers.get(SUPCON, {}), "median_ms"),
        "to_bound": ratio(own, {"median_ms": bound}, "median_ms"),
        "smallest": smallest.get("loss"),
        "memory_to_smallest": ratio(own, smallest, "peak_extra_mb"),
    }


def ratio(own: Row, other: Row, measure: str) -> float | None:
    """None where there is no other, or its memory is below what can be read."""
    return float(f"{own[measure] / other[measure]:.3g}") if other.get(measure) else None


def readme_tables(
    rows: Sequence[Row], summary: Sequence[Row], accuracy: Sequence[Row]
) -> Iterator[str]:
    """In reStructuredText."""
    for dtype, d in dict.fromkeys((row["dtype"], row["d"]) for row in rows):
        own = [row for row in rows if (row["dtype"], row["d"]) == (dtype, d)]
        yield f"{dtype}, d = {d}"
        yield over("n", "Median ms", own, "median_ms")
        yield over("n", "Peak extra MB", own, "peak_extra_mb")
    for title, measure in (
        ("Time to fastest peer of its kind", "to_fastest"),
        ("Shortest time to the same peer's", "to_fastest_minima"),
        ("Time to fastest peer of all", "to_fastest_of_all"),
        ("Time to SupConLoss", "to_supcon"),
        ("Time to matrix products", "to_bound"),
        ("Memory to smallest peer", "memory_to_smallest"),
    ):
        yield over("n", title, [with_setting(row) for row in summary], measure)
    for dtype, n in dict.fromkeys((row["dtype"], row["n"]) for row in accuracy):
        own = [row for row in accuracy if (row["dtype"], row["n"]) == (dtype, n)]
        yield over("temperature", f"Gradient error, {dtype}, n = {n}", own, "error")


def with_setting(row: Row) -> Row:
    return {**row, "loss": "{loss} ({dtype}, d = {d})".format(**row)}


def over(axis: str, title: str, rows: Sequence[Row], measure: str) -> str:
    """A line for each loss, a column for each value of an axis."""
    columns = list(dict.fromkeys(row[axis] for row in rows))
    values = {(row["loss"], row[axis]): row[measure] for row in rows}
    lines = [[title, *map(str, columns)]]
    for loss in dict.fromkeys(row["loss"] for row in rows):
        lines.append([loss, *(shown(values.get((loss, column))) for column in columns)])
    return rst_table(lines)


def shown(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
