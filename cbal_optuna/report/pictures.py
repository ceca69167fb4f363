"""Pictures of embeddings on a page: maps, and queries with what they find, the usual setting
beside the best."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from html import escape

from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import Search
from cbal_optuna.report.maps import KINDS
from cbal_optuna.report.maps import maps
from cbal_optuna.report.maps import marks
from cbal_optuna.report.maps import variance
from cbal_optuna.report.page import figure_html
from cbal_optuna.report.pictured import chosen
from cbal_optuna.report.pictured import first_pictured
from cbal_optuna.report.pictured import Pictured
from cbal_optuna.retraining import SettingComparison


_MOST_ROWS = 8
_SYMBOLS = {"circle": "●", "diamond": "◆"}


def pictures_of_embeddings(comparisons: Sequence[SettingComparison], prefix: str) -> str:
    """Two sections of a page, of the first comparison that has pictures; nothing if none has.

    Args:
        comparisons:
            Of the usual and the best setting.
        prefix:
            Of the figures' identifiers.
    """
    try:
        pictured = first_pictured(comparisons)
    except (OSError, ValueError) as error:
        return (
            "<h2>Map of the embeddings</h2>\n<p>The pictures cannot be shown: "
            f"{escape(str(error))}.</p>\n"
        )
    return "" if pictured is None else _maps(pictured, prefix) + _sheet(pictured)


def _maps(pictured: Pictured, prefix: str) -> str:
    panels: list[str] = []
    for kind, name in KINDS.items():
        for setting, pictures in pictured.pictures.items():
            title = f"{setting} setting, {name}"
            if kind == "pca":
                title = f"{title}, {variance(pictures.map)}"
            identifier = f"{prefix}map-{len(panels)}"
            html = figure_html(maps([pictures], kind), identifier, with_library=False)
            panels.append(f"<div>\n<p>{title}</p>\n{html}</div>\n")
    first = pictured.first
    of_classes = marks(first.map)
    legend = "".join(
        f'<li><span style="color: {colour}">{_SYMBOLS[symbol]}</span> '
        f"{escape(first.names[label])}</li>"
        for label, (colour, symbol) in of_classes.items()
    )
    return f"""<h2>Map of the embeddings</h2>
<p>{len(first.map.labels)} images of {len(of_classes)} classes,
drawn from the {escape(pictured.where)}, as the trainings with seed {pictured.seed} embed them:
along the two directions in which they differ most, and by t-SNE, which keeps near what is near,
while distances between groups mean nothing. A map shows where to look, not which setting is
better.</p>
<div class="maps">
{"".join(panels)}</div>
<ul class="marks">{legend}</ul>
"""


def _sheet(pictured: Pictured) -> str:
    found = pictured.searches()
    if not found:
        return ""
    settings = list(pictured.pictures)
    rights = [sum(row[i].is_right for row in found.values()) for i in range(len(settings))]
    counts = " and ".join(
        f"{n} with the {setting} setting" for n, setting in zip(rights, settings)
    )
    rows = "".join(_row(found[query], pictured) for query in chosen(found, _MOST_ROWS))
    return f"""<h2>Nearest neighbours</h2>
<p>Of {len(found)} queries drawn at random from the {escape(pictured.where)}, the nearest
neighbour is of the right class for {counts}. Shown are some of each kind by turns, not in
proportion: the nearest on the left, and another class in a dashed frame with a cross.</p>
<div class="sheet">
{rows}</div>
"""


def _row(row: Sequence[Search], pictured: Pictured) -> str:
    first, query = pictured.first, row[0].query
    groups = "".join(
        f"<div><p>{setting}</p>\n<ul>{''.join(_found(search, pictures))}</ul></div>\n"
        for search, (setting, pictures) in zip(row, pictured.pictures.items())
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
