"""A study in optuna-dashboard: its result as the study's note, and its figures.

They are written in the layout of optuna-dashboard's ``save_note`` and
``save_plotly_graph_object``, but a text in one piece instead of pieces of 2,045 characters: what
several workers write at the same moment cannot mix, so that the last one wins, and a figure costs
one transaction, not ten.
optuna-dashboard itself is needed to look at them only.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import time
from typing import Any
import warnings

from optuna.storages import BaseStorage
from optuna.study import Study
import plotly.graph_objects as go

from cbal_optuna.report import drawn
from cbal_optuna.report import drawn_pictures
from cbal_optuna.report import first_pictured
from cbal_optuna.report import nothing
from cbal_optuna.report import OF_PICTURES
from cbal_optuna.report import result_markdown
from cbal_optuna.report import timeline
from cbal_optuna.retraining import comparisons_of
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.storage import engine_of


_NOTE, _NOTE_VERSION = "dashboard:note_str:", "dashboard:note_ver"
_FIGURE = "dashboard:plot_data:cbal-{}:"
# Markdown shows no definition of a link. People may write before the first and after the second.
_BEGIN = "[cbal-begin]: # (From here on the note is replaced after trials.)"
_END = "[cbal-end]: # (Up to here.)"
# What MySQL's TEXT holds, if every character were of four bytes.
_LONGEST = 16_000
_INTERVAL_SECONDS = 30.0
_HEIGHT = 450
# Of the time of the trials, the part that updates may take.
_SHARE = 0.01


class DashboardUpdates:
    """Keeps the dashboard's note and figures current, to be called after each trial.

    It updates them every 30 seconds at most, and seldom enough that it takes less than 1 % of the
    time. What comes after the last trial is :func:`update_dashboard`'s.

    Args:
        study:
            That trials are run of.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._next = 0.0

    def __call__(self) -> None:
        began = time.monotonic()
        if began < self._next:
            return
        update_dashboard(self._study)
        ended = time.monotonic()
        self._next = ended + max(_INTERVAL_SECONDS, (ended - began) / _SHARE)


def update_dashboard(study: Study) -> None:
    """Write what optuna-dashboard shows of a study: its result as a note, and the report's
    figures, pictures of the embeddings among them. The dashboard needs nothing but the storage.

    The usual and the recommended setting are compared as far as the storage has trainings of them
    with fresh seeds. What people have written into the note, before or after the result, stays.

    Args:
        study:
            In any state, with a single objective.

    Raises:
        ValueError: The study has several objectives.
    """
    comparisons = comparisons_of(study)
    result = result_markdown(study, comparisons)
    storage, study_id = study._storage, study._study_id
    known = storage.get_study_system_attrs(study_id)
    for name, title, figure in (*_of_trials(study), *_of_pictures(comparisons, known)):
        prefix, text = _FIGURE.format(name), _fitted(figure, title).to_json()
        _save(storage, study_id, known, prefix, text)
    # People may have written meanwhile.
    known = storage.get_study_system_attrs(study_id)
    note = _text(known, _NOTE)
    replaced = _replaced(note, result)
    if replaced != note:
        _save(storage, study_id, known, _NOTE, replaced)
        storage.set_study_system_attr(study_id, _NOTE_VERSION, known.get(_NOTE_VERSION, 0) + 1)


def _of_trials(study: Study) -> Iterator[tuple[str, str, go.Figure]]:
    """Name, title and figure."""
    for kind, figure in drawn(study):
        # The dashboard has a timeline of its own.
        if kind.draw is not timeline:
            yield kind.name, kind.title, figure


def _of_pictures(
    comparisons: Sequence[SettingComparison], known: Mapping[str, Any]
) -> Iterator[tuple[str, str, go.Figure]]:
    """Name, title and figure. Those that are stored stay where the pictures are out of reach, and
    go with the setting that they are of."""
    try:
        pictured = first_pictured(comparisons)
    except (OSError, ValueError) as error:
        warnings.warn(
            f"the pictures of the embeddings are not put into the dashboard: {error}", stacklevel=3
        )
        return
    shown = [] if pictured is None else list(drawn_pictures(pictured))
    yield from shown
    for name in OF_PICTURES.keys() - {name for name, *_ in shown}:
        if f"{_FIGURE.format(name)}0" in known:
            title, _ = OF_PICTURES[name]
            yield name, title, nothing("There are none of the best setting as it is now.")


def _fitted(figure: go.Figure, title: str) -> go.Figure:
    """As the dashboard shows figures: without a heading, and cut off at a height."""
    figure.update_xaxes(title={"standoff": 4})
    return figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "y": 0.98, "yanchor": "top"},
        margin={"t": 100, "l": 10, "r": 10, "b": 10},
        font={"size": 12},
        height=_HEIGHT,
        # What people have zoomed into stays when the page asks for news.
        uirevision="always",
    )


def _replaced(note: str, result: str) -> str:
    """A note with its part from the first to the second mark replaced, or put after the rest."""
    before, begin, rest = note.partition(_BEGIN)
    after = rest.partition(_END)[2] if begin else ""
    if not begin and before:
        before = f"{before.rstrip()}\n\n"
    return f"{before}{_BEGIN}\n\n{result}\n\n{_END}{after}"


def _text(attributes: Mapping[str, str], prefix: str) -> str:
    pieces: list[str] = []
    while (key := f"{prefix}{len(pieces)}") in attributes:
        pieces.append(attributes[key])
    return "".join(pieces)


def _save(
    storage: BaseStorage, study_id: int, known: Mapping[str, Any], prefix: str, text: str
) -> None:
    """Write what differs from what is known."""
    pieces = _pieces(storage, text)
    # Later pieces of a text that was longer.
    while f"{prefix}{len(pieces)}" in known:
        pieces.append("")
    for i, piece in enumerate(pieces):
        if known.get(f"{prefix}{i}") != piece:
            storage.set_study_system_attr(study_id, f"{prefix}{i}", piece)


def _pieces(storage: BaseStorage, text: str) -> list[str]:
    """A single one, but for MySQL, where those of two workers may be mixed until the next
    update."""
    engine = engine_of(storage)
    if engine is None or engine.dialect.name not in ("mysql", "mariadb"):
        return [text]
    return [text[i : i + _LONGEST] for i in range(0, len(text), _LONGEST)]
