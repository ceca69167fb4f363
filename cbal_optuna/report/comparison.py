"""Samplers compared, as figures, as text and as a page."""

from __future__ import annotations

from html import escape
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cbal_optuna.comparison import SamplerComparison
from cbal_optuna.comparison import TARGET
from cbal_optuna.plain_text import printable
from cbal_optuna.report.axes import text_label
from cbal_optuna.report.looks import dress
from cbal_optuna.report.page import figure_html
from cbal_optuna.report.page import page
from cbal_optuna.report.page import table
from cbal_optuna.report.words import label


_COLOURS = ("#d6499a", "#3f86cf", "#2a9d8f", "#b08a1e", "#a05fc0", "#d64550", "#6a994e", "#7d8187")


def best_so_far(comparison: SamplerComparison) -> go.Figure:
    """The median over seeds of the best value so far, with the quartiles as a band, against the
    number of trials and against the seconds that they took."""
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05)
    for column, (x, values) in enumerate((by_trials(comparison), by_seconds(comparison)), 1):
        for i, sampler in enumerate(comparison.samplers):
            low, middle, high = np.quantile(values[sampler], (0.25, 0.5, 0.75), axis=0)
            colour = _COLOURS[i % len(_COLOURS)]
            common = {"legendgroup": sampler, "row": 1, "col": column, "x": x, "mode": "lines"}
            shape = {"shape": "hv" if column == 1 else "linear"}
            figure.add_scatter(
                y=low, line={"width": 0, **shape}, showlegend=False, hoverinfo="skip", **common
            )
            figure.add_scatter(
                y=high,
                line={"width": 0, **shape},
                fill="tonexty",
                fillcolor=f"rgba{(*_rgb(colour), 0.15)}",
                showlegend=False,
                hoverinfo="skip",
                **common,
            )
            figure.add_scatter(
                y=middle,
                name=text_label(sampler),
                line={"color": colour, "width": 3 if i == 0 else 1.8, **shape},
                showlegend=column == 1,
                **common,
            )
    dress(figure)
    figure.update_xaxes(title={"text": "trials"}, col=1)
    figure.update_xaxes(title={"text": "seconds of training"}, col=2)
    figure.update_yaxes(title={"text": "best value so far"}, col=1)
    return figure


def by_trials(comparison: SamplerComparison) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Numbers of trials that all searches have come to, (n,), and for each sampler the best values
    so far, (n_seeds, n)."""
    best = comparison.best.dropna()
    values = {s: best[s].to_numpy().T for s in comparison.samplers}
    return best.index.to_numpy(), values


def by_seconds(comparison: SamplerComparison) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The same against seconds, from when the last search had its first value until the first
    search ended."""
    searches = comparison.trials.groupby(["sampler", "seed"])["seconds"]
    start, stop = float(searches.min().max()), float(searches.max().min())
    grid = np.linspace(start, max(start, stop), 200)
    values = {}
    for sampler, own in comparison.trials.groupby("sampler"):
        rows = []
        for _, search in own.groupby("seed"):
            last = np.searchsorted(search["seconds"].to_numpy(), grid, side="right") - 1
            rows.append(search["best"].to_numpy()[last])
        values[str(sampler)] = np.array(rows)
    return grid, values


def comparison_text(comparison: SamplerComparison) -> str:
    """The table as plain text, and how to read it."""
    return printable(f"{shown_table(comparison).to_string()}\n\n{explanation(comparison)}")


def write_comparison(folder: Path, comparison: SamplerComparison, title: str) -> None:
    """Write ``index.html``, ``table.csv`` and ``trials.csv`` into a folder.

    Raises:
        OSError: A file cannot be written.
    """
    comparison.table().to_csv(folder / "table.csv", index_label="sampler")
    comparison.trials.to_csv(folder / "trials.csv", index=False)
    (folder / "index.html").write_text(comparison_page(comparison, title), encoding="utf-8")


def comparison_page(comparison: SamplerComparison, title: str) -> str:
    """An HTML page that needs nothing else."""
    return page(title, comparison_body(comparison, "best-so-far", with_library=True))


def comparison_body(comparison: SamplerComparison, name: str, *, with_library: bool) -> str:
    """What a page says of a comparison; the name is the figure's identifier."""
    shown = shown_table(comparison)
    rows: list[list[Any]] = [[name, *row] for name, row in zip(shown.index, shown.to_numpy())]
    return (
        f'<p class="headline">{escape(_headline(comparison))}</p>\n'
        f"{figure_html(best_so_far(comparison), name, with_library=with_library)}"
        "<p>Median over seeds, and the quartiles as a band.</p>\n"
        f"{table(['', *shown.columns], rows)}<p>{escape(explanation(comparison))}</p>\n"
    )


def shown_table(comparison: SamplerComparison) -> pd.DataFrame:
    """The table with its numbers as text."""
    found = comparison.table()
    n_seeds, last = len(comparison.seeds), comparison.counts[-1]
    shown = found.filter(like="best after").map(lambda value: f"{value:.4f}")
    shown[f"behind after {last}"] = [
        _interval(*row) for row in found[["behind", "low", "high"]].itertuples(index=False)
    ]
    shown["trials to target"] = [_count(x, last) for x in found["trials to target"]]
    shown["reached"] = [f"{n} of {n_seeds}" for n in found["reached"]]
    shown["seconds"] = [label(round(x, 1)) for x in found["seconds"]]
    return shown


def explanation(comparison: SamplerComparison) -> str:
    n_seeds = len(comparison.seeds)
    return (
        f"Means over {n_seeds} seed{'s' * (n_seeds > 1)}; searches of one seed have the same "
        f"first trials and trainings. Behind is by how much the best value was worse than with "
        f"{comparison.samplers[0]}, with the 95 % interval of the bootstrap over seeds. The "
        f"target is {100 * TARGET:g} % of what the best search of a seed gained over the first "
        "trial; the median number of trials to it counts searches that did not reach it as "
        "longest. "
        "Seconds are the median length of a search, its trainings added up."
    )


def _headline(comparison: SamplerComparison) -> str:
    reached = comparison.trials_to_target().median()
    first, *others = comparison.samplers
    last = comparison.counts[-1]
    parts = [f"{name} {_count(reached[name], last)}" for name in others]
    listed = f", {', '.join(parts)}" if parts else ""
    return f"Median trials to the target: {first} {_count(reached[first], last)}{listed}."


def _count(n: float, last: int) -> str:
    return f"over {last}" if math.isinf(n) else f"{n:g}"


def _interval(mean: float, low: float, high: float) -> str:
    if math.isnan(mean):
        return ""
    if math.isnan(low):
        return f"{mean:.4f}"
    return f"{mean:.4f} ({low:.4f} to {high:.4f})"


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
