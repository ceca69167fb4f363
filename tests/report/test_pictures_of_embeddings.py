from __future__ import annotations

from html.parser import HTMLParser
import json
from pathlib import Path
import shutil

import numpy as np
import optuna
from optuna.trial import create_trial
from optuna.trial import FrozenTrial
import plotly.graph_objects as go
import pytest

from cbal_optuna.pictures import EmbeddingMap
from cbal_optuna.pictures import Found
from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import Search
from cbal_optuna.report import drawn_pictures
from cbal_optuna.report import write_report
from cbal_optuna.report.pictured import Pictured
from cbal_optuna.report.pictures import pictures_of_embeddings
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.stored_pictures import keep_pictures
from cbal_optuna.stored_pictures import StoredPictures


ATTACK = "</script><img src=x onerror=alert(1)>\"'"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
N_QUERIES = 20


def pictures(right: int, name: str = "robin", n_queries: int = N_QUERIES) -> Pictures:
    """Of two classes; so many queries find an image of their own one."""
    items = range(2 * n_queries)
    plane = ([0.1, -0.2], [0.3, 0.4])
    return Pictures(
        EmbeddingMap([0, 1], plane, plane, 0.5),
        [
            Search(i, (Found(n_queries + i, 0.9, i < right), Found(0, 0.1, False)))
            for i in range(n_queries)
        ],
        dict.fromkeys(items, PIXEL),
        dict.fromkeys(items, 0),
        {0: name, 1: "wren"},
    )


def trial_with(directory: Path, kept: Pictures) -> FrozenTrial:
    return create_trial(
        value=0.1, user_attrs={"seed": 7}, system_attrs=keep_pictures(directory, kept)
    )


def comparison(directory: Path, *kept: Pictures, held_out: str = "classes") -> SettingComparison:
    """Of the usual setting, and of the best one unless it is the same."""
    trials = [trial_with(directory, own) for own in kept]
    values = {"map_at_r": np.array([0.1])}
    stored = StoredPictures.of(directory, trials[0], trials[-1])
    return SettingComparison("test", (7,), values, values, held_out, stored)


class Section(HTMLParser):
    def __init__(self, *comparisons: SettingComparison) -> None:
        super().__init__()
        self.source = pictures_of_embeddings(comparisons, "0-")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, kind: str) -> int:
        return sum(attrs.get("class") == kind for _, attrs in self.tags)


def test_both_settings_have_two_maps_and_their_neighbours(tmp_path: Path) -> None:
    section = Section(comparison(tmp_path, pictures(5), pictures(15)))
    assert section.count("js-plotly-plot") + section.count("plotly-graph-div") == 4
    assert section.count("search") == 8
    assert "right class for 5 with the usual setting and 15 with the best setting" in (
        " ".join(section.text.split())
    )
    assert "2 images of 2 classes, drawn from the test classes, as the trainings with seed 7" in (
        " ".join(section.text.split())
    )
    assert section.text.count("usual setting, t-SNE") == 1


def test_what_is_right_is_not_told_by_colour_alone(tmp_path: Path) -> None:
    section = Section(comparison(tmp_path, pictures(10), pictures(10)))
    texts = [attrs["alt"] for tag, attrs in section.tags if tag == "img"]
    n_right, n_wrong = section.count("right"), section.count("wrong")
    assert n_right and n_wrong
    assert sum((text or "").startswith("right: robin") for text in texts) == n_right
    assert sum((text or "").startswith("wrong: robin") for text in texts) == n_wrong
    assert section.text.count("✓") == n_right and section.text.count("✗") == n_wrong


def test_queries_of_every_kind_are_shown(tmp_path: Path) -> None:
    section = Section(comparison(tmp_path, pictures(5), pictures(15)))
    groups = section.source.split('<div class="search">')[1:]
    # By the first that each setting finds.
    firsts = [tuple(g.split("<ul>")[i][:20].count('"right"') for i in (1, 2)) for g in groups]
    assert set(firsts) == {(0, 0), (0, 1), (1, 1)}
    assert firsts[0] == (0, 1)


def test_a_usual_setting_that_is_the_best_is_shown_once(tmp_path: Path) -> None:
    section = Section(comparison(tmp_path, pictures(5)))
    assert section.count("plotly-graph-div") == 2
    assert "for 5 with the usual and best setting" in " ".join(section.text.split())


def test_held_out_images_are_called_images(tmp_path: Path) -> None:
    assert (
        "drawn from the test images"
        in Section(comparison(tmp_path, pictures(1), held_out="images")).text
    )


def test_a_comparison_without_pictures_has_no_section(tmp_path: Path) -> None:
    without = SettingComparison("test", (7,), {}, {})
    assert Section(without).source == Section().source == ""
    assert Section(without, comparison(tmp_path, pictures(3))).count("search")


def test_without_queries_there_are_maps_alone(tmp_path: Path) -> None:
    section = Section(comparison(tmp_path, pictures(0, n_queries=0)))
    assert section.count("plotly-graph-div") == 2
    assert "Nearest neighbours" not in section.text


@pytest.mark.parametrize("damage", ["directory", "file", "no JSON", "other JSON", "nested"])
def test_pictures_that_are_gone_are_one_sentence(tmp_path: Path, damage: str) -> None:
    directory = tmp_path / "<artifacts>"
    compared = comparison(directory, pictures(3), pictures(4))
    assert compared.pictures is not None
    file = directory / compared.pictures.best
    if damage == "directory":
        shutil.rmtree(directory)
    elif damage == "file":
        file.unlink()
    else:
        file.write_text({"no JSON": "{", "other JSON": "{}", "nested": "[" * 99_999}[damage])
    section = Section(compared)
    assert "The pictures cannot be shown: the" in section.text and str(directory) in section.text
    assert "<artifacts>" not in section.source and section.text.count(".") >= 1
    assert not section.count("search")


def test_names_stay_text(tmp_path: Path) -> None:
    compared = comparison(tmp_path, pictures(5, ATTACK), pictures(6, ATTACK))
    section = Section(compared)
    assert ATTACK in section.text
    assert all("onerror" not in attrs for _, attrs in section.tags)
    titles = {attrs["title"] for tag, attrs in section.tags if tag == "img"}
    assert f"query: {ATTACK}" in titles
    assert "</script><img" not in section.source


def test_the_whole_page_holds_them_after_plotly(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="birds", direction="maximize")
    path = tmp_path / "report.html"
    write_report(path, study)
    before = path.read_text(encoding="utf-8")
    assert 'class="maps"' not in before
    write_report(path, study, [comparison(tmp_path, pictures(5), pictures(6))])
    after = path.read_text(encoding="utf-8")
    assert after.index("plotly.js v") < after.index('class="maps"')
    assert len(after) - len(before) < 100_000
    assert json.dumps(PIXEL)[1:-1] in after


def figures(**by_setting: Pictures) -> dict[str, go.Figure]:
    pictured = Pictured(by_setting, "test classes", 7)
    return {name: figure for name, _, figure in drawn_pictures(pictured)}


@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_maps_have_a_panel_a_setting_and_a_trace_a_class(kind: str) -> None:
    figure = figures(usual=pictures(5), best=pictures(9))[f"map-{kind}"]
    assert [len(trace.x) for trace in figure.data] == [1, 1, 1, 1]
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


def test_figures_of_a_usual_setting_that_is_the_best_have_one_panel_and_one_column() -> None:
    found = figures(**{"usual and best": pictures(3)})
    assert [axis.title.text for axis in found["map-tsne"].select_xaxes()] == [
        "usual and best setting"
    ]
    assert found["neighbours"].layout.xaxis.ticktext == ("query", "usual and best setting")


def test_without_queries_maps_are_the_only_figures() -> None:
    assert set(figures(usual=pictures(0, n_queries=0), best=pictures(0, n_queries=0))) == {
        "map-pca",
        "map-tsne",
    }


def test_names_are_no_markup_of_figures() -> None:
    for figure in figures(usual=pictures(5, ATTACK), best=pictures(9, ATTACK)).values():
        text = json.dumps(figure.to_plotly_json())
        assert "onerror" in text and "<img" not in text


def test_where_images_are_drawn_from_is_no_markup_of_titles() -> None:
    pictured = Pictured({"usual and best": pictures(5)}, "test <img src=x>", 7)
    titles = [title for _, title, _ in drawn_pictures(pictured)]
    assert len(titles) == 3
    assert all(title.endswith(", test &lt;img src=x&gt;") for title in titles)


def test_sheets_of_photographs_stay_below_300_000_characters() -> None:
    # A thousand images on a map, and photographs of more than the usual weight.
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
    assert sizes["map-pca"] < 60_000 and sizes["neighbours"] < 300_000
