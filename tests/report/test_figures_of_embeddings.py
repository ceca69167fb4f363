"""Maps and nearest neighbours as figures, of both settings at once."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from cbal_optuna.pictures import EmbeddingMap
from cbal_optuna.pictures import Found
from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import Search
from cbal_optuna.report import drawn_pictures
from cbal_optuna.report.pictured import Pictured


ATTACK = "<a href='x'>robin</a>"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
N_QUERIES = 20


def pictures(right: int, n_queries: int = N_QUERIES) -> Pictures:
    """Of three classes; so many queries find an image of their own one first."""
    items = range(2 * n_queries)
    plane = ([0.1, -0.2, 0.3], [0.3, 0.4, 0.5])
    found = [
        (Found(n_queries + i, 0.912, i < right), Found(0, 0.1, False)) for i in range(n_queries)
    ]
    return Pictures(
        EmbeddingMap([0, 1, 1], plane, plane, 0.5),
        [Search(i, found[i]) for i in range(n_queries)],
        dict.fromkeys(items, PIXEL),
        dict.fromkeys(items, 0),
        {0: ATTACK, 1: "wren"},
    )


def figures(**by_setting: Pictures) -> dict[str, go.Figure]:
    pictured = Pictured(by_setting, "test classes", 7)
    return {name: figure for name, _, figure in drawn_pictures(pictured)}


@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_maps_have_a_panel_a_setting_and_a_trace_a_class(kind: str) -> None:
    figure = figures(usual=pictures(5), best=pictures(9))[f"map-{kind}"]
    assert [len(trace.x) for trace in figure.data] == [1, 2, 1, 2]
    assert [trace.xaxis for trace in figure.data] == ["x", "x", "x2", "x2"]
    titles = [axis.title.text for axis in figure.select_xaxes()]
    shares = ["usual setting, 50\N{NO-BREAK SPACE}% of the variance", "usual setting"]
    assert titles[0] == shares[kind == "tsne"]
    assert titles[1].startswith("best setting")
    assert [axis.scaleanchor for axis in figure.select_yaxes()] == ["x", "x2"]


def test_every_neighbour_has_its_image_its_frame_and_its_text() -> None:
    figure = figures(usual=pictures(0), best=pictures(N_QUERIES))["neighbours"]
    query, right, wrong, told = figure.data
    n_frames = [trace.x.count(None) for trace in (query, right, wrong)]
    assert n_frames == [6, 6, 6 * 3]
    assert len(told.hovertext) == len(figure.layout.images) == sum(n_frames)
    assert {(i.x, i.y) for i in figure.layout.images} == set(zip(told.x, told.y))
    assert {line.line.dash for line in (right, wrong)} == {None, "4px,2px"}
    heads = figure.layout.xaxis.ticktext
    assert heads == ("query", "usual setting", "best setting")


def test_columns_stand_under_their_settings() -> None:
    figure = figures(usual=pictures(0), best=pictures(N_QUERIES))["neighbours"]
    told = figure.data[-1]
    _, usual, best = figure.layout.xaxis.tickvals
    firsts = {x for x, text in zip(told.x, told.hovertext) if text.startswith("right")}
    assert len(firsts) == 1 and usual < min(firsts) < best
    low, high = figure.layout.xaxis.range
    assert low < min(told.x) and max(told.x) < high


def test_a_usual_setting_that_is_the_best_has_one_panel_and_one_column() -> None:
    found = figures(**{"usual and best": pictures(3)})
    assert [axis.title.text for axis in found["map-tsne"].select_xaxes()] == [
        "usual and best setting"
    ]
    assert found["neighbours"].layout.xaxis.ticktext == ("query", "usual and best setting")


def test_without_queries_there_are_maps_alone() -> None:
    assert set(figures(usual=pictures(0, 0), best=pictures(0, 0))) == {"map-pca", "map-tsne"}


def test_names_are_no_markup() -> None:
    for figure in figures(usual=pictures(5), best=pictures(9)).values():
        assert "<a" not in figure.to_json() and "\\u003ca" not in figure.to_json()


def test_photographs_weigh_a_quarter_of_a_million_characters_at_most() -> None:
    # Of six searches with each setting, and of a thousand images.
    own = pictures(5)
    photograph = "data:image/jpeg;base64," + "A" * 2_900
    places = ([-0.123] * 1000, [-0.456] * 1000)
    heavy = Pictures(
        EmbeddingMap([i // 50 for i in range(1000)], places, places, 0.5),
        [Search(s.query, (s.found[0],) * 6) for s in own.searches],
        dict.fromkeys(own.thumbnails, photograph),
        own.classes,
        {i: "class of birds" for i in range(20)},
    )
    sizes = {n: len(f.to_json()) for n, f in figures(usual=heavy, best=heavy).items()}
    assert sizes["map-pca"] < 60_000 and sizes["neighbours"] < 280_000
