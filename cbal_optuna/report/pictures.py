"""Pictures of embeddings on a page: maps, and queries with what they find, the usual setting
beside the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from html import escape
from itertools import cycle

import plotly.graph_objects as go

from cbal_optuna.pictures import COLOURS
from cbal_optuna.pictures import EmbeddingMap
from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import Search
from cbal_optuna.report.axes import text_label
from cbal_optuna.report.looks import dress
from cbal_optuna.report.page import figure_html
from cbal_optuna.retraining import SettingComparison


_MOST_ROWS = 8
_SYMBOLS = {"circle": "●", "diamond": "◆"}
# A class by its colour and, where there are more classes than colours, its mark.
_MARKS = [(colour, symbol) for symbol in _SYMBOLS for colour in COLOURS]
_HEIGHT, _FRAME = 380, "rgba(128, 128, 128, 0.4)"

Named = Sequence[tuple[str, Pictures]]


def pictures_of_embeddings(comparisons: Sequence[SettingComparison], prefix: str) -> str:
    """Two sections of a page, of the first comparison that has pictures; nothing if none has.

    Args:
        comparisons:
            Of the usual and the best setting.
        prefix:
            Of the figures' identifiers.
    """
    found = next((c for c in comparisons if c.pictures is not None), None)
    if found is None or found.pictures is None:
        return ""
    stored = found.pictures
    try:
        usual, best = stored.read()
    except (OSError, ValueError):
        return (
            "<h2>Map of the embeddings</h2>\n<p>The pictures cannot be shown: they are artifacts "
            f"that should be in {escape(str(stored.directory))}, which is missing or lacks them."
            "</p>\n"
        )
    named = [("usual", usual), ("best", best)]
    if stored.usual == stored.best:
        named = [("usual and best", usual)]
    where = f"the {escape(found.evaluated_on)}"
    return _maps(named, where, stored.seed, prefix) + _sheet(named, where)


def _maps(named: Named, where: str, seed: int, prefix: str) -> str:
    _, first = named[0]
    labels = list(dict.fromkeys(first.map.labels))
    marks = dict(zip(labels, cycle(_MARKS)))
    panels: list[str] = []
    for kind in ("pca", "tsne"):
        for setting, pictures in named:
            drawn = _map(pictures.map, kind, marks, pictures.names)
            title = f"{setting} setting, {_title(pictures.map, kind)}"
            html = figure_html(drawn, f"{prefix}map-{len(panels)}", with_library=False)
            panels.append(f"<div>\n<p>{title}</p>\n{html}</div>\n")
    legend = "".join(
        f'<li><span style="color: {colour}">{_SYMBOLS[symbol]}</span> '
        f"{escape(first.names[label])}</li>"
        for label, (colour, symbol) in marks.items()
    )
    return f"""<h2>Map of the embeddings</h2>
<p>{len(first.map.labels)} images of {len(labels)} classes, drawn from {where}, as the trainings
with seed {seed} embed them: along the two directions in which they differ most, and by t-SNE,
which keeps near what is near, while distances between groups mean nothing. A map shows where to
look, not which setting is better.</p>
<div class="maps">
{"".join(panels)}</div>
<ul class="marks">{legend}</ul>
"""


def _title(drawn: EmbeddingMap, kind: str) -> str:
    if kind == "tsne":
        return "t-SNE"
    return f"principal directions, {100 * drawn.variance:.0f}\N{NO-BREAK SPACE}% of the variance"


def _map(
    drawn: EmbeddingMap,
    kind: str,
    marks: Mapping[int, tuple[str, str]],
    names: Mapping[int, str],
) -> go.Figure:
    """One trace a class, so that no point needs a text of its own."""
    x, y = getattr(drawn, kind)
    figure = go.Figure()
    for label, (colour, symbol) in marks.items():
        own = [i for i, other in enumerate(drawn.labels) if other == label]
        figure.add_scatter(
            name=text_label(names[label]),
            x=[x[i] for i in own],
            y=[y[i] for i in own],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 6, "opacity": 0.75},
            hoverinfo="name",
            hoverlabel={"namelength": -1},
        )
    dress(figure)
    frame = {"showline": True, "mirror": True, "linecolor": _FRAME, "showgrid": False}
    hidden = {**frame, "showticklabels": False, "ticks": "", "range": [-1.06, 1.06]}
    figure.update_xaxes(hidden)
    figure.update_yaxes(hidden, scaleanchor="x")
    figure.update_layout(showlegend=False, height=_HEIGHT)
    return figure


def _sheet(named: Named, where: str) -> str:
    searches = [{s.query: s for s in pictures.searches} for _, pictures in named]
    queries = [query for query in searches[0] if all(query in by_query for by_query in searches)]
    if not queries:
        return ""
    found = {query: [by_query[query] for by_query in searches] for query in queries}
    rights = [sum(row[i].is_right for row in found.values()) for i in range(len(named))]
    counts = " and ".join(
        f"{n} with the {setting} setting" for n, (setting, _) in zip(rights, named)
    )
    rows = "".join(_row(found[query], named) for query in _chosen(found))
    return f"""<h2>Nearest neighbours</h2>
<p>Of {len(queries)} queries drawn at random from {where}, the nearest neighbour is of the right
class for {counts}. Shown are some of each kind by turns, not in proportion: the nearest on the
left, and another class in a dashed frame with a cross.</p>
<div class="sheet">
{rows}</div>
"""


def _chosen(found: Mapping[int, Sequence[Search]]) -> list[int]:
    """Queries that differ in which settings are right, by turns; first those in which the settings
    differ."""
    turns: Counter[tuple[bool, ...]] = Counter()
    keyed = []
    for query, row in found.items():
        kind = tuple(search.is_right for search in row)
        keyed.append((turns[kind], len(set(kind)) < 2, kind, query))
        turns[kind] += 1
    return [query for *_, query in sorted(keyed)[:_MOST_ROWS]]


def _row(row: Sequence[Search], named: Named) -> str:
    _, first = named[0]
    query = row[0].query
    groups = "".join(
        f"<div><p>{setting}</p>\n<ul>{''.join(_found(search, pictures))}</ul></div>\n"
        for search, (setting, pictures) in zip(row, named)
    )
    name = escape(first.class_of(query))
    return f"""<div class="search">
<p>{name}</p>
<div class="query"><p>query</p>
{_image(first, query, f"query: {name}")}</div>
{groups}</div>
"""


def _found(search: Search, pictures: Pictures) -> Iterator[str]:
    for found in search.found:
        kind, mark = ("right", "✓") if found.right else ("wrong", "✗")
        told = f"{kind}: {escape(pictures.class_of(found.item))}, cosine {found.similarity:.2f}"
        yield f'<li class="{kind}">{_image(pictures, found.item, told)}<b>{mark}</b></li>'


def _image(pictures: Pictures, item: int, told: str) -> str:
    """With a text, escaped already, for those who cannot see it or point at it."""
    source = escape(pictures.thumbnails[item])
    return f'<img src="{source}" alt="{told}" title="{told}">'
