"""The frame of an HTML page, and its tables."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from datetime import timedelta
from html import escape
import math
from typing import Any

import plotly.graph_objects as go

from cbal_optuna.report.words import label


# Nothing may be loaded, so that nothing can be.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
_STYLE = """
:root { --paper: #fff; --ink: #1d2126; --soft: #5d646c; --line: #d9dde2; --fill: #f4f5f7; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #16191d; --ink: #e4e7ea; --soft: #a0a7af; --line: #363c43; --fill: #20252b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0.5rem 0 0; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 0.5rem; font-size: 1.2rem; }
p { margin: 0.5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.headline { font-size: 1.15rem; font-weight: 600; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; margin: 1rem 0; padding: 0;
  list-style: none; overflow-wrap: anywhere; }
a { color: inherit; }
section { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td { overflow-wrap: break-word; max-width: 32rem; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.number { text-align: right; white-space: nowrap; }
.sortable th { padding: 0; }
.sortable td:last-child { min-width: 16rem; }
.sortable button { all: unset; cursor: pointer; padding: 0.3rem 0.8rem 0.3rem 0; }
.sortable button:focus-visible { outline: 2px solid; }
[aria-sort=ascending] button::after { content: " ▲"; }
[aria-sort=descending] button::after { content: " ▼"; }
pre { padding: 0.7rem; background: var(--fill); white-space: pre-wrap; overflow-wrap: anywhere;
  user-select: all; }
figure { margin: 0; break-inside: avoid; }
figure text:not(.hoverlayer text) { fill: var(--soft) !important; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr));
  gap: 0.5rem 1.5rem; }
.maps > div { min-width: 0; }
.maps p { margin: 0.8rem 0 0; }
.marks { display: flex; flex-wrap: wrap; gap: 0 1.2rem; margin: 1rem 0; padding: 0;
  list-style: none; font-size: 0.9rem; overflow-wrap: anywhere; }
.search { display: grid; grid-template-columns: 4.75rem 1fr 1fr; gap: 0 1.5rem;
  margin: 0.8rem 0 1.4rem; break-inside: avoid; font-size: 0.9rem; }
.search p { margin: 0; }
.search > p { grid-column: 1 / -1; font-weight: 600; }
.search div p { color: var(--soft); }
.search ul { display: grid; grid-template-columns: repeat(6, minmax(0, 4.75rem)); gap: 0.3rem;
  margin: 0; padding: 0; list-style: none; }
.search li { position: relative; }
.search img { display: block; width: 100%; aspect-ratio: 1; border: 3px solid var(--soft); }
.search img[src^="data:image/png"] { image-rendering: pixelated; }
.search .right img { border-color: #2a9d6f; }
.search .wrong img { border: 3px dashed #d64550; }
.search b { position: absolute; right: 0; bottom: 0; min-width: 1.2em; padding: 0 0.15em;
  background: #2a9d6f; color: #fff; line-height: 1.25; text-align: center; }
.search .wrong b { background: #d64550; }
@media (max-width: 45rem) {
  .search { grid-template-columns: 3.5rem 1fr; gap: 0.3rem 0.8rem; }
  .search .query { grid-row: 2 / span 2; }
  .search b { font-size: 0.7rem; }
}
@media (max-width: 30rem) { table { font-size: 0.85rem; } }
@media print {
  .search img, .search b { print-color-adjust: exact; }
  h2, p { break-after: avoid; }
  tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  .sortable { font-size: 0.55rem; }
  .sortable td, .sortable button { padding: 0.1rem 0.25rem 0.1rem 0; white-space: normal; }
  .sortable td:last-child { min-width: 6rem; }
}
"""
_SORT = """
for (const button of document.querySelectorAll(".sortable button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent;
    };
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      const difference = typeof a === "number" ? a - b : a.localeCompare(b);
      return order === "ascending" ? difference : -difference;
    };
    [...body.rows].sort((a, b) => compare(key(a), key(b))).forEach((row) => body.append(row));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
  });
}
"""


def page(title: str, body: str) -> str:
    """A whole page; the title is escaped here, the body is HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
<script>{_SORT}</script>
</body>
</html>
"""


def figure_html(figure: go.Figure, name: str, *, with_library: bool) -> str:
    """A figure as HTML; plotly's library has to come with the first one of a page."""
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=with_library,
        config={"responsive": True, "displayModeBar": False},
        div_id=name,
        default_height=f"{figure.layout.height}px",
    )
    return f"<figure>{html}</figure>\n"


def table(header: Iterable[str], rows: Iterable[Sequence[Any]], *, sortable: bool = False) -> str:
    """Rows of plain values, which are labelled and escaped here and nowhere else."""
    heads = [escape(name) for name in header]
    if sortable:
        heads = [f'<button type="button">{head}</button>' for head in heads]
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table{kind}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n"
    )


def _cell(value: Any) -> str:
    text = escape(label(value))
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number):
        return f'<td class="number" data-sort="{number!r}">{text}</td>'
    return f"<td>{text}</td>"
