"""Hyper-parameters of any kind as axes of figures."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
import math
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from cbal_optuna.report.words import label


_LONGEST_TEXT, _LONGEST_TICK = 40, 12


@dataclass(frozen=True)
class Axis:
    """A hyper-parameter as an axis: a range of numbers, or categories side by side.

    Attributes:
        name:
            The hyper-parameter.
        low, high, log:
            The range searched; of categories, of their positions.
        categories:
            Position and value of each, by its representation, so that 1, ``"1"`` and
            :obj:`True` are three.
    """

    name: str
    low: float
    high: float
    log: bool
    categories: dict[str, tuple[int, Any]] | None

    @classmethod
    def of(cls, name: str, found: Sequence[tuple[BaseDistribution, Any]]) -> Axis:
        """The axis that holds everything: a range may change from trial to trial."""
        if any(isinstance(d, CategoricalDistribution) for d, _ in found):
            choices = {repr(c): c for d, v in found for c in getattr(d, "choices", (v,))}
            categories = {key: (i, c) for i, (key, c) in enumerate(choices.items())}
            return cls(name, 0, len(categories) - 1, False, categories)
        ranges: list[Any] = [d for d, _ in found]
        low, high = min(d.low for d in ranges), max(d.high for d in ranges)
        return cls(name, low, high, all(d.log for d in ranges), None)

    @property
    def numeric(self) -> bool:
        """Whether it is a range, or categories that are increasing numbers."""
        if self.categories is None:
            return True
        values = [v for _, v in self.categories.values()]
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            return False
        return all(a < b for a, b in zip(values, values[1:]))

    def positions(self, trials: Iterable[FrozenTrial]) -> list[float]:
        values = (t.params[self.name] for t in trials)
        if self.categories is None:
            return list(values)
        return [self.categories[repr(v)][0] for v in values]

    def share(self, trial: FrozenTrial) -> float:
        """How far along the axis a trial is, from 0 to 1."""
        ends = self.low, *self.positions([trial]), self.high
        low, at, high = map(math.log, ends) if self.log else ends
        return (at - low) / (high - low)

    def layout(self) -> dict[str, Any]:
        title = {"text": text_label(self.name)}
        if self.categories is not None:
            texts = [text_label(v, _LONGEST_TICK) for _, v in self.categories.values()]
            ticks = {"tickvals": list(range(len(texts))), "ticktext": texts}
            return {"title": title, "range": [-0.5, self.high + 0.5], **ticks}
        low, high = self.low, self.high
        if self.log:
            low, high = math.log10(low), math.log10(high)
        margin = 0.05 * (high - low)
        return {
            "title": title,
            "type": "log" if self.log else "linear",
            "range": [low - margin, high + margin],
            **(_log_ticks(low, high) if self.log else {}),
        }


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks at 1, 2 and 5, or at 1 over many decades; plotly's own if these are too few."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    # The smallest decade there is in floating point is followed by 0.
    ticks = [t for t in ticks if t > 0 and low - 1e-9 <= math.log10(t) <= high + 1e-9]
    return {"tickvals": ticks, "ticktext": list(map(label, ticks))} if len(ticks) > 2 else {}


def axes_of(trials: Sequence[FrozenTrial]) -> list[Axis]:
    """The searched hyper-parameters, in the order in which trials have them."""
    found: dict[str, list[tuple[BaseDistribution, Any]]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            found.setdefault(name, []).append((trial.distributions[name], value))
    axes = [Axis.of(name, pairs) for name, pairs in found.items()]
    return [axis for axis in axes if axis.low < axis.high]


def text_label(value: Any, longest: int = _LONGEST_TEXT) -> str:
    """A name or value as a figure's text, which plotly reads as a small subset of HTML: it knows
    no entity of a quotation mark."""
    text = label(value)
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return escape(text, quote=False)
