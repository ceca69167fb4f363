"""Trainings with a setting on one part of a data set, evaluated on another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
import hashlib
from itertools import product
from typing import Any
from typing import ClassVar
from typing import Generic
from typing import TypeVar

import numpy as np
import optuna
from torch import nn

from cbal_optuna.data import ClassSplit
from cbal_optuna.data import ImageSplit
from cbal_optuna.data import LabelledImages
from cbal_optuna.objectives.checks import check_budget
from cbal_optuna.objectives.ended import EndedTrainings
from cbal_optuna.objectives.infeasible import breakdowns_are_infeasible
from cbal_optuna.objectives.infeasible import InfeasibleSettingError
from cbal_optuna.objectives.outcome import Outcome
from cbal_optuna.objectives.search_space import Setting
from cbal_optuna.objectives.trainer import Trainer
from cbal_optuna.pictures import Pictures
from cbal_optuna.training import Checkpoint
from cbal_optuna.training import DivergedError
from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import MicroBatches
from cbal_optuna.training import Regime
from cbal_optuna.training import TrainingRecord


VALIDATION = "validation"
TEST = "test"

# What is trained or evaluated on: classes, or images, by number.
Part = tuple[int, ...] | np.ndarray

# What ends the work on a training besides its success.
_ENDS = (InfeasibleSettingError, optuna.TrialPruned)

OutcomeT = TypeVar("OutcomeT", bound=Outcome, covariant=True)


class Trainings(Trainer, Generic[OutcomeT]):
    """What is trained on what, how it is evaluated, and the trainings of a setting.

    Subclasses say the first two. A training that is cut off goes on from its checkpoint when it is
    asked for again.
    """

    #: What is held out for validation and test: ``"classes"`` or ``"images"``.
    held_out: ClassVar[str]

    def __init__(
        self,
        dataset: LabelledImages,
        *,
        splits: Sequence[ClassSplit] | Sequence[ImageSplit],
        **arguments: Any,
    ) -> None:
        super().__init__(dataset, **arguments)
        self.splits = splits
        self._check_batch_sizes()

    @classmethod
    @abstractmethod
    def measures(cls, part: str) -> Sequence[str]:
        """Names of what is measured on the ``"validation"`` or ``"test"`` part; the value of the
        objective is the first."""

    @abstractmethod
    def _items(self, part: Part) -> np.ndarray:
        """The images of a part, by index."""

    @abstractmethod
    def _evaluated(
        self,
        regime: Regime,
        model: nn.Module,
        train_items: np.ndarray,
        evaluation_items: np.ndarray,
        *,
        final: bool,
    ) -> tuple[float, Any]:
        """The value, and what :meth:`_outcome` wants to know of this evaluation.

        Raises:
            DivergedError: The embeddings are not finite.
        """

    @abstractmethod
    def _outcome(self, evaluation: Any, record: TrainingRecord, *, final: bool) -> OutcomeT:
        """Of a training, by its last evaluation."""

    @abstractmethod
    def _pictures(
        self, evaluation: Any, train_items: np.ndarray, evaluation_items: np.ndarray
    ) -> Pictures:
        """Of what an evaluation has embedded."""

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "folds": len(self.splits)}

    @contextmanager
    def outcomes(
        self,
        setting: Setting,
        part: str,
        seeds: Sequence[int],
        *,
        final: bool = False,
        pictured: bool = False,
        on_evaluation: Callable[[int, int, float], None] = lambda training, number, value: None,
        is_enough: Callable[[Sequence[float]], bool] = lambda values: False,
    ) -> Iterator[list[Outcome]]:
        """Train with a setting on each division of a part, with each seed. What comes of it is
        kept until the ``with`` block has stored it: where this is cut off, trainings that had
        ended are not done again.

        Args:
            setting, final:
                As for :meth:`run`.
            part:
                As for :meth:`divisions`.
            seeds:
                Of the trainings on each division.
            pictured:
                Whether the first training is to have pictures.
            on_evaluation:
                Called with the number of the training (0, 1, ...), and as for :meth:`run`.
            is_enough:
                Called with the values of the trainings so far; whether to do no more.

        Raises:
            InfeasibleSettingError: As for :meth:`run`.
        """
        runs = list(product(self.divisions(part), seeds))
        checkpoint = self._checkpoint(
            setting=setting, part=part, seeds=list(seeds), final=final, pictured=pictured
        )
        micro_batches = self._micro_batches()
        with checkpoint.removed_at_the_end(*_ENDS):
            ended = EndedTrainings(checkpoint)
            ended.repeat(on_evaluation)

            def note(number: int, value: float) -> None:
                ended.note(value)
                on_evaluation(len(ended.outcomes), number, value)

            for division, seed in runs[len(ended.outcomes) :]:
                if is_enough([outcome.value for outcome in ended.outcomes]):
                    break
                self.run(
                    setting,
                    *division,
                    seed=seed,
                    final=final,
                    pictured=pictured and not ended.outcomes,
                    on_evaluation=note,
                    on_outcome=ended.add,
                    micro_batches=micro_batches,
                )
            yield ended.outcomes

    def divisions(self, part: str) -> list[tuple[Part, Part]]:
        """What to train on and what to evaluate on.

        Args:
            part:
                ``"validation"``: as in trials, for each fold; ``"test"``: on everything else, and
                on the test set.

        Raises:
            ValueError: There is no such part.
        """
        if part not in (VALIDATION, TEST):
            raise ValueError(f"`part` is {part!r}; it should be {VALIDATION!r} or {TEST!r}.")
        if part == VALIDATION:
            return [(split.train, split.validation) for split in self.splits]
        return [(self.splits[0].train_and_validation, self.splits[0].test)]

    def run(
        self,
        setting: Setting,
        train_part: Part,
        evaluation_part: Part,
        *,
        seed: int,
        final: bool = False,
        pictured: bool = False,
        on_evaluation: Callable[[int, float], None] = lambda number, value: None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
        micro_batches: MicroBatches | None = None,
    ) -> OutcomeT:
        """Train with a setting on some classes or images, evaluate on others.

        Args:
            setting:
                Every hyper-parameter of the search space.
            train_part, evaluation_part:
                Classes or images, by number.
            seed:
                Of weights, batches, augmentation and dropout.
            final:
                Whether to measure, after the training, what is for the end of a study too.
            pictured:
                Whether the outcome is to have pictures of the embeddings, which takes seconds.
            on_evaluation:
                Called with the number of each evaluation and its value.
            on_outcome:
                Called with the outcome while the checkpoint is still there.
            micro_batches:
                Those of earlier trainings with this setting; by default new ones.

        Raises:
            InfeasibleSettingError: The training diverges, runs out of memory or cannot fill its
                batches.
            ValueError: The setting lacks a hyper-parameter, or has one that the space has not.
        """
        self.space.check(setting)
        train_items, evaluation_items = self._items(train_part), self._items(evaluation_part)
        checkpoint = self._checkpoint(
            setting=setting,
            train=_digest(train_items),
            evaluation=_digest(evaluation_items),
            seed=seed,
        )
        with checkpoint.removed_at_the_end(*_ENDS), breakdowns_are_infeasible():
            _, record, evaluation = self._trained(
                setting,
                train_items,
                seed,
                lambda model: self._evaluated(
                    self._prepared(), model, train_items, evaluation_items, final=final
                ),
                on_evaluation=on_evaluation,
                micro_batches=micro_batches,
                checkpoint=checkpoint,
            )
            outcome = self._outcome(evaluation, record, final=final)
            if pictured:
                pictures = self._pictures(evaluation, train_items, evaluation_items)
                outcome = replace(outcome, pictures=pictures)
            on_outcome(outcome)
            return outcome

    def final_model(self, setting: Setting, *, seed: int) -> EmbeddingModel:
        """Train with a setting on everything but the test set, and do not evaluate.

        The model is the one that :meth:`run` evaluates on the test set with the same seed.

        Args:
            setting, seed:
                As for :meth:`run`.

        Returns:
            From images to embeddings, on the CPU, in evaluation mode.

        Raises:
            InfeasibleSettingError, ValueError: As :meth:`run`.
        """
        self.space.check(setting)
        train_part, _ = self.divisions(TEST)[0]
        items = self._items(train_part)
        regime = self._prepared()
        checkpoint = self._checkpoint(setting=setting, train=_digest(items), seed=seed)
        with checkpoint.removed_at_the_end(*_ENDS), breakdowns_are_infeasible():
            model, _, _ = self._trained(
                setting, items, seed, lambda model: (0.0, None), checkpoint=checkpoint
            )
            if not regime.embed(model, items[: setting["batch_size"]]).isfinite().all():
                raise DivergedError("the embeddings were not finite")
        return regime.whole(model).cpu().eval()

    def n_images(self, part: Part) -> int:
        """In a part."""
        return len(self._items(part))

    def _checkpoint(self, **work: Any) -> Checkpoint:
        """Of what this objective does on a device of this kind."""
        return self._checkpoints.of(
            {"objective": self._description, "device": self.device.type, **work}
        )

    @cached_property
    def _description(self) -> dict[str, Any]:
        # It takes a digest of the weights' file.
        return self.description

    def _check_batch_sizes(self) -> None:
        """That the sampler can fill them, and the budget has room for one."""
        cases = product(self.divisions(VALIDATION), self.space.batch_sizes)
        for (train_part, _), batch_size in cases:
            self._batches(self._items(train_part), batch_size, 0, self.seed)
        check_budget(self.training.samples, self.space.batch_sizes)


def _digest(items: np.ndarray) -> str:
    return hashlib.sha256(items.tobytes()).hexdigest()
