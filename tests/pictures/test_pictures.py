from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
import json
import math
from typing import Any

import numpy as np
from PIL import Image
import pytest

from cbal_optuna.data import LabelledImages
from cbal_optuna.pictures import drawn_map
from cbal_optuna.pictures import drawn_sheet
from cbal_optuna.pictures import Embedded
from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import pictures_of
from cbal_optuna.pictures import RIGHT
from cbal_optuna.pictures import WRONG
from cbal_optuna.pictures.thumbnail import image_of
from cbal_optuna.pictures.thumbnail import LARGEST
from cbal_optuna.pictures.thumbnail import thumbnail


@pytest.fixture
def pictures(colours: LabelledImages, embedded: Callable[..., Embedded]) -> Pictures:
    return pictures_of(colours, embedded(0.7))


def test_pictures_come_back_from_json(pictures: Pictures) -> None:
    again = Pictures.of(json.loads(json.dumps(pictures.plain())))
    assert json.dumps(again.plain()) == json.dumps(pictures.plain())
    assert again.searches == pictures.searches
    assert again.class_of(pictures.searches[0].query) == pictures.class_of(
        pictures.searches[0].query
    )


@pytest.mark.parametrize("plain", [{}, [], None, {"map": {}}, {"map": 1, "searches": 2}])
def test_something_else_is_no_pictures(plain: Any) -> None:
    with pytest.raises(ValueError, match="`plain` is no pictures of embeddings"):
        Pictures.of(plain)


def loaded(plain: dict[str, Any]) -> None:
    plain["thumbnails"] = dict.fromkeys(plain["thumbnails"], "http://tracker/x.png")


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: plain["map"]["labels"].append(0),
        lambda plain: plain["map"].update(variance="much"),
        lambda plain: plain["map"].update(pca=[[0.0] * 3]),
        lambda plain: plain["map"]["tsne"][0].__setitem__(0, math.nan),
        lambda plain: plain["map"]["pca"][1].__setitem__(0, 10**400),
        lambda plain: plain["names"].popitem(),
        lambda plain: plain["names"].update({"0": 1}),
        lambda plain: plain["thumbnails"].popitem(),
        lambda plain: plain["classes"].popitem(),
        lambda plain: plain["searches"][0].update(found=[]),
        lambda plain: plain["searches"][0].update(query=-1),
        lambda plain: plain["searches"][0]["found"][0].update(similarity="high"),
        loaded,
    ],
)
def test_damaged_pictures_are_none(
    pictures: Pictures, damage: Callable[[dict[str, Any]], None]
) -> None:
    plain = json.loads(json.dumps(pictures.plain()))
    damage(plain)
    with pytest.raises(ValueError, match="`plain` is no pictures of embeddings"):
        Pictures.of(plain)


def test_every_image_of_the_searches_is_there_by_its_class(
    pictures: Pictures, colours: LabelledImages
) -> None:
    for search in pictures.searches:
        for item in (search.query, *(found.item for found in search.found)):
            assert pictures.class_of(item) == f"colour {colours.labels[item]}"
            seen = np.asarray(image_of(pictures.thumbnails[item]))
            assert np.array_equal(seen, np.asarray(colours.image(item)))
    assert set(pictures.map.labels) <= set(pictures.names)


@pytest.mark.parametrize(
    ("size", "side", "kind"),
    [((8, 8), 8, "PNG"), ((33, 90), 33, "JPEG"), ((500, 300), LARGEST, "JPEG")],
)
def test_a_thumbnail_is_a_small_square(size: tuple[int, int], side: int, kind: str) -> None:
    uri = thumbnail(Image.new("RGB", size, (10, 200, 30)))
    head, _, content = uri.partition(",")
    assert head == f"data:image/{kind.lower()};base64"
    image = Image.open(BytesIO(b64decode(content)))
    assert image.format == kind and image.size == (side, side)
    assert np.abs(np.asarray(image).astype(int) - (10, 200, 30)).max() < 6


def test_a_detailed_photograph_becomes_a_few_thousand_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    assert len(thumbnail(Image.fromarray(pixels))) < 8_000


def test_image_files_show_the_map_and_what_is_right(pictures: Pictures) -> None:
    found = [f.right for search in pictures.searches[:12] for f in search.found]
    assert any(found) and not all(found)
    points = Image.open(BytesIO(drawn_map(pictures)))
    assert points.format == "PNG" and len(points.getcolors(10_000)) > 10
    sheet = Image.open(BytesIO(drawn_sheet(pictures)))
    cell = sheet.width // 7
    frames = [
        sheet.getpixel(((1 + i % 6) * cell + 5, i // 6 * cell + cell // 2))
        for i in range(len(found))
    ]
    for right, frame in zip(found, frames):
        wanted = RIGHT if right else WRONG
        colour = [int(wanted[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(np.subtract(frame, colour)).max() < 40


def test_a_sheet_without_searches_can_be_drawn(
    colours: LabelledImages, embedded: Callable[..., Embedded]
) -> None:
    pictures = pictures_of(colours, embedded(items=np.arange(0, 120, 10)))
    assert pictures.searches == []
    assert Image.open(BytesIO(drawn_sheet(pictures))).size
