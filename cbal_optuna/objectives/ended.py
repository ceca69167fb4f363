"""The trainings of a setting that have ended, kept so that they are not done again."""

from __future__ import annotations

from collections.abc import Callable

from cbal_optuna.objectives.outcome import EarlierOutcome
from cbal_optuna.objectives.outcome import Outcome
from cbal_optuna.training import Checkpoint


class EndedTrainings:
    """What came of them, with those of before an interruption.

    Args:
        checkpoint:
            Where they are kept.

    Attributes:
        outcomes:
            One for each training.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.outcomes: list[Outcome] = []
        # Of the evaluations of each, and of the training under way.
        self._values: list[list[float]] = []
        self._under_way: list[float] = []
        saved = checkpoint.read()
        if saved is None:
            return
        try:
            self.outcomes = [EarlierOutcome.of(plain) for plain in saved["outcomes"]]
            self._values = saved["values"]
        except (KeyError, TypeError, ValueError):
            checkpoint.reject("does not fit these trainings")
            self.outcomes = []

    def repeat(self, on_evaluation: Callable[[int, int, float], None]) -> None:
        """Call a function with the number of the training, and number and value of each of its
        evaluations."""
        for i, values in enumerate(self._values):
            for number, value in enumerate(values, 1):
                on_evaluation(i, number, value)

    def note(self, value: float) -> None:
        """That of an evaluation of the training under way."""
        self._under_way.append(value)

    def add(self, outcome: Outcome) -> None:
        """That of the training under way."""
        self.outcomes.append(outcome)
        self._values.append(self._under_way)
        self._under_way = []
        if self._checkpoint.is_due or self._checkpoint.is_there:
            plain = [outcome.plain() for outcome in self.outcomes]
            self._checkpoint.write({"outcomes": plain, "values": self._values})
