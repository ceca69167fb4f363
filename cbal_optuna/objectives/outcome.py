"""What a training has come to."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from cbal_optuna.evaluation import EmbeddingSpread
from cbal_optuna.pictures import Pictures
from cbal_optuna.training import TrainingRecord


@dataclass(frozen=True)
class Outcome(ABC):
    """One training and its evaluation.

    Attributes:
        record:
            Of the training.
        pictures:
            Of the images that it was evaluated on, where they were asked for.
    """

    record: TrainingRecord
    pictures: Pictures | None = field(default=None, kw_only=True)

    @abstractmethod
    def measures(self) -> dict[str, float]:
        """What the evaluation says, by the names under which it is stored; the value of the
        objective is the first."""

    @property
    def value(self) -> float:
        return next(iter(self.measures().values()))

    @property
    def remarks(self) -> dict[str, str]:
        """What is to be said in words, by the names under which it is stored."""
        return {}

    def attributes(self) -> dict[str, float]:
        """All single numbers, by the names under which they are stored."""
        record = {k: v for k, v in asdict(self.record).items() if v is not None}
        del record["curve"]
        phases = {f"{phase}_seconds": v for phase, v in record.pop("phases").items()}
        return {**self.measures(), **record, **phases}

    def plain(self) -> dict[str, Any]:
        """Plain values, of which :class:`EarlierOutcome` is made again."""
        return {
            "record": asdict(self.record),
            "measures": {name: float(value) for name, value in self.measures().items()},
            "remarks": self.remarks,
            "pictures": None if self.pictures is None else self.pictures.plain(),
        }


@dataclass(frozen=True)
class EarlierOutcome(Outcome):
    """One training that had ended before the others were cut off, as far as it is stored."""

    earlier_measures: Mapping[str, float]
    earlier_remarks: Mapping[str, str]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> EarlierOutcome:
        record = TrainingRecord(**plain["record"])
        drawn = plain["pictures"]
        pictures = None if drawn is None else Pictures.of(drawn)
        return cls(record, plain["measures"], plain["remarks"], pictures=pictures)

    def measures(self) -> dict[str, float]:
        return dict(self.earlier_measures)

    @property
    def remarks(self) -> dict[str, str]:
        return dict(self.earlier_remarks)


def collapse_remark(spread: EmbeddingSpread) -> dict[str, str]:
    """What is to be said of embeddings, by its name, if they have collapsed."""
    if not spread.collapsed:
        return {}
    return {
        "collapsed": "the embeddings lie in next to one direction (effective rank "
        f"{spread.effective_rank:.3f}, spread {spread.spread:.2g}), so that they do not tell "
        "images apart"
    }


def attributes_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The mean of each number over several trainings, and what is to be said of one of them."""
    attributes = [outcome.attributes() for outcome in outcomes]
    means = {name: float(np.mean([a[name] for a in attributes])) for name in attributes[0]}
    return means | {name: said for o in outcomes for name, said in o.remarks.items()}


def mean_curve(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """The mean over several trainings with one setting of each term in the course of the training,
    to five digits."""
    curves = [outcome.record.curve for outcome in outcomes]
    return {
        term: [float(f"{mean:.5g}") for mean in np.mean([curve[term] for curve in curves], axis=0)]
        for term in curves[0]
    }
