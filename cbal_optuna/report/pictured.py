"""What the usual and the best setting make of the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from cbal_optuna.objectives import TEST
from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import Search
from cbal_optuna.retraining import SettingComparison


@dataclass(frozen=True)
class Pictured:
    """Pictures of one training with each setting.

    Attributes:
        pictures:
            By setting, as :meth:`~cbal_optuna.stored_pictures.StoredPictures.read` has them.
        where:
            What the images are drawn from, in words.
        seed:
            Of the trainings.
    """

    pictures: Mapping[str, Pictures]
    where: str
    seed: int

    @property
    def first(self) -> Pictures:
        """Those of the usual setting, for what both have in common."""
        return next(iter(self.pictures.values()))

    def searches(self) -> dict[int, list[Search]]:
        """By query, what it finds with each setting."""
        by_setting = [{s.query: s for s in own.searches} for own in self.pictures.values()]
        common = [q for q in by_setting[0] if all(q in by_query for by_query in by_setting)]
        return {q: [by_query[q] for by_query in by_setting] for q in common}


def first_pictured(comparisons: Iterable[SettingComparison]) -> Pictured | None:
    """The pictures of the first comparison that has any; those of the test come first.

    Raises:
        OSError: They cannot be read.
        ValueError: They are something else.
    """
    for compared in sorted(comparisons, key=lambda c: c.part != TEST):
        if compared.pictures is not None:
            stored = compared.pictures
            return Pictured(stored.read(), compared.evaluated_on, stored.seed)
    return None


def chosen(searches: Mapping[int, Sequence[Search]], most: int) -> list[int]:
    """Queries that differ in which settings are right, by turns; first those in which the settings
    differ."""
    turns: Counter[tuple[bool, ...]] = Counter()
    keyed = []
    for query, row in searches.items():
        kind = tuple(search.is_right for search in row)
        keyed.append((turns[kind], len(set(kind)) < 2, kind, query))
        turns[kind] += 1
    return [query for *_, query in sorted(keyed)[:most]]
