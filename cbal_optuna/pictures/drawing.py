"""Pictures as image files, for who looks at artifacts one by one."""

from __future__ import annotations

from io import BytesIO
from itertools import cycle

from PIL import Image
from PIL import ImageDraw

from cbal_optuna.pictures.pictures import Pictures
from cbal_optuna.pictures.thumbnail import image_of
from cbal_optuna.pictures.thumbnail import LARGEST


#: Of the classes of a map, in middle lightness.
COLOURS = (
    "#4e79a7",
    "#f28e2b",
    "#e15759",
    "#59a14f",
    "#b07aa1",
    "#3fa7b0",
    "#c9a227",
    "#e377a8",
    "#9c755f",
    "#8a8f94",
)
#: Of what is found.
RIGHT, WRONG = "#2a9d6f", "#d64550"
_SIDE, _MARGIN, _DOT = 480, 30, 3
_CELL, _FRAME, _BADGE = LARGEST + 16, 4, 22
_MOST_ROWS = 12


def drawn_map(pictures: Pictures) -> bytes:
    """The map as a PNG: principal directions on the left, t-SNE on the right."""
    canvas = Image.new("RGB", (2 * _SIDE, _SIDE), "white")
    draw = ImageDraw.Draw(canvas)
    labels = pictures.map.labels
    colours = dict(zip(dict.fromkeys(labels), cycle(COLOURS)))
    panels = ("principal directions", pictures.map.pca), ("t-SNE", pictures.map.tsne)
    for i, (title, places) in enumerate(panels):
        draw.text((i * _SIDE + _MARGIN, 8), title, "black")
        for label, x, y in zip(labels, *places):
            left = i * _SIDE + _MARGIN + (x + 1) / 2 * (_SIDE - 2 * _MARGIN)
            top = _MARGIN + (1 - y) / 2 * (_SIDE - 2 * _MARGIN)
            box = (left - _DOT, top - _DOT, left + _DOT, top + _DOT)
            draw.ellipse(box, colours[label])
    return _encoded(canvas, "png")


def drawn_sheet(pictures: Pictures) -> bytes:
    """Some of the searches as a JPEG: queries on the left, what is wrong crossed."""
    rows = pictures.searches[:_MOST_ROWS]
    n_columns = 1 + max((len(search.found) for search in rows), default=0)
    canvas = Image.new("RGB", (n_columns * _CELL, max(1, len(rows)) * _CELL), "white")
    draw = ImageDraw.Draw(canvas)
    for i, search in enumerate(rows):
        cells = [(search.query, "black"), *((f.item, _frame(f.right)) for f in search.found)]
        for j, (item, colour) in enumerate(cells):
            left, top = j * _CELL + _FRAME, i * _CELL + _FRAME
            right, bottom = left + LARGEST + 2 * _FRAME, top + LARGEST + 2 * _FRAME
            draw.rectangle((left, top, right - 1, bottom - 1), colour)
            image = image_of(pictures.thumbnails[item]).resize((LARGEST, LARGEST))
            canvas.paste(image, (left + _FRAME, top + _FRAME))
            if colour == WRONG:
                left, top = right - _BADGE, bottom - _BADGE
                draw.rectangle((left, top, right - 1, bottom - 1), WRONG)
                ends = left + _FRAME, top + _FRAME, right - _FRAME, bottom - _FRAME
                draw.line(ends, "white", 3)
                draw.line((ends[0], ends[3], ends[2], ends[1]), "white", 3)
    return _encoded(canvas, "jpeg")


def _frame(right: bool) -> str:
    return RIGHT if right else WRONG


def _encoded(image: Image.Image, kind: str) -> bytes:
    content = BytesIO()
    image.save(content, kind)
    return content.getvalue()
