"""Trainings with a setting on one part of a data set, evaluated on another."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import asdict
from dataclasses import replace
from functools import cached_property
from functools import partial
import hashlib
from itertools import product
import math
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Generic
from typing import TypeVar

import numpy as np
import optuna
from timm.layers.norm_act import convert_sync_batchnorm
import torch
from torch import nn

from cbal_optuna.data import ClassSplit
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import ImageSplit
from cbal_optuna.data import LabelledImages
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.objectives.checks import check_positive
from cbal_optuna.objectives.checks import device_of
from cbal_optuna.objectives.infeasible import breakdowns_are_infeasible
from cbal_optuna.objectives.infeasible import InfeasibleSettingError
from cbal_optuna.objectives.outcome import EarlierOutcome
from cbal_optuna.objectives.outcome import Outcome
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.search_space import Setting
from cbal_optuna.pictures import Pictures
from cbal_optuna.training import AUTO
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import Checkpoint
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import DivergedError
from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import MicroBatches
from cbal_optuna.training import OneProcess
from cbal_optuna.training import Ranks
from cbal_optuna.training import Regime
from cbal_optuna.training import SYNCHRONISED
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import TrainingRecord
from cbal_optuna.training import WHOLE


VALIDATION = "validation"
TEST = "test"

# What is trained or evaluated on: classes, or images, by number.
Part = tuple[int, ...] | np.ndarray


# What ends the work on a training besides its success.
_ENDS = (InfeasibleSettingError, optuna.TrialPruned)

OutcomeT = TypeVar("OutcomeT", bound=Outcome, covariant=True)


class Trainings(ABC, Generic[OutcomeT]):
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
        space: SearchSpace,
        splits: Sequence[ClassSplit] | Sequence[ImageSplit],
        training: TrainingOptions,
        backbone: BackboneOptions,
        embedding_dim: int,
        device: str,
        seed: int,
        cache_directory: Path | None,
        cache_images: bool,
        checkpoints: Checkpoints | None,
        on_step: Callable[[], None],
    ) -> None:
        check_positive(image_size=backbone.image_size, embedding_dim=embedding_dim)
        self.dataset = dataset
        self.space = space
        self.splits = splits
        self.training = training
        self.seed = seed
        self._check_batch_sizes()
        self.device = device_of(device)
        self._backbone = backbone
        self._embedding_dim = embedding_dim
        self._cache_directory = cache_directory or default_cache_directory()
        self._image_directory = self._cache_directory if cache_images else None
        self._checkpoints = checkpoints or Checkpoints(self._cache_directory / "checkpoints")
        self._on_step: Callable[[], None] | None = on_step
        self._regime: Regime | None = None
        self._ranks = OneProcess()

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to the process."""
        return {**self.__dict__, "_on_step": None, "_regime": None}

    @classmethod
    @abstractmethod
    def measures(cls, part: str) -> Sequence[str]:
        """Names of what is measured on the ``"validation"`` or ``"test"`` part; the value of the
        objective is the first."""

    @abstractmethod
    def _make_regime(self) -> Regime:
        """What is trained, and its inputs."""

    @abstractmethod
    def _items(self, part: Part) -> np.ndarray:
        """The images of a part, by index."""

    @abstractmethod
    def _batches(
        self, items: np.ndarray, batch_size: int, n_steps: int, seed: int
    ) -> Iterable[np.ndarray]:
        """Batches of positions in ``items``; ValueError if they cannot be filled."""

    @abstractmethod
    def _targets(self) -> np.ndarray:
        """What the loss takes as the class of every image, int64 of shape (n_images,)."""

    @abstractmethod
    def _evaluated(
        self,
        regime: Regime,
        model: nn.Module,
        train_items: np.ndarray,
        evaluation_items: np.ndarray,
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
        """What trials must have in common to be compared, by name, in plain JSON types."""
        training = asdict(self.training)
        # A study may go on where there is less memory; its trials say what theirs was.
        del training["micro_batch"]
        return {
            "dataset": self.dataset.name,
            "images": len(self.dataset),
            "classes": _digest_of_classes(self.dataset),
            "backbone": self._backbone.name,
            "weights": self._backbone.weights_fingerprint,
            "image_size": self._backbone.image_size,
            "embedding_dim": self._embedding_dim,
            "loss": self.space.loss,
            "space": self.space.description,
            **training,
            "folds": len(self.splits),
            "seed": self.seed,
        }

    def prepare(self) -> None:
        """Make the backbone and decode the images or extract their features, if they are not in
        the cache.

        A trial does this too; by itself it tells bad input from bad trials.
        """
        self._prepared()

    def release(self) -> None:
        """Give up what :meth:`prepare` or a trial has loaded; the cache stays."""
        self._regime = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def move(self, device: torch.device, *, on_step: Callable[[], None]) -> None:
        """Train on another device from now on, as in a worker that was sent this objective."""
        self.release()
        self.device = device
        self._on_step = on_step

    def share(self, ranks: OneProcess) -> None:
        """Do each training together with other processes, if there are any, which :meth:`follow`
        the first; each has a CUDA device of its own, if there are any.

        Raises:
            ValueError: A batch size or an option of the training is not fit for it.
        """
        unfit = [n for n in self.space.batch_sizes if n % ranks.size]
        if unfit:
            raise ValueError(
                f"`batch_size` may be {unfit[0]}; with {ranks.size} processes it should be a "
                "multiple of their number."
            )
        if self.device.type == "cuda" and isinstance(ranks, Ranks):
            self.device = torch.device("cuda", ranks.local_rank)
            torch.cuda.set_device(self.device)
        elif self.training.batch_norm == SYNCHRONISED and ranks.size > 1:
            raise ValueError(
                f"`batch_norm` is {SYNCHRONISED!r}; torch can do that on CUDA devices only."
            )
        self._ranks = ranks

    def follow(self) -> None:
        """Do a share of all trainings of the process that leads, until it ends."""
        assert isinstance(self._ranks, Ranks)
        for work in self._ranks.works():
            items = np.array(work["items"])
            # The leader is told, and its trial fails.
            with suppress(Exception):
                self._trained(work["setting"], items, work["seed"], lambda model: (math.nan, None))

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
            outcomes, values = _earlier(checkpoint)
            for i, earlier in enumerate(values):
                for number, value in enumerate(earlier, 1):
                    on_evaluation(i, number, value)
            for i in range(len(outcomes), len(runs)):
                if is_enough([outcome.value for outcome in outcomes]):
                    break
                values.append([])

                def note(number: int, value: float, i: int = i) -> None:
                    values[i].append(value)
                    on_evaluation(i, number, value)

                division, seed = runs[i]
                outcomes.append(
                    self.run(
                        setting,
                        *division,
                        seed=seed,
                        final=final,
                        pictured=pictured and i == 0,
                        on_evaluation=note,
                        micro_batches=micro_batches,
                    )
                )
                if checkpoint.is_due or checkpoint.is_there:
                    plain = [outcome.plain() for outcome in outcomes]
                    checkpoint.write({"outcomes": plain, "values": values})
            yield outcomes

    def divisions(self, part: str) -> list[tuple[Part, Part]]:
        """What to train on and what to evaluate on.

        Args:
            part:
                ``"validation"``: as in trials, for each fold; ``"test"``: on everything else, and
                on the test set.
        """
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
            micro_batches:
                Those of earlier trainings with this setting; by default new ones.

        Raises:
            InfeasibleSettingError: The training diverges, runs out of memory or cannot fill its
            batches.
        """
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
                    self._prepared(), model, train_items, evaluation_items
                ),
                on_evaluation=on_evaluation,
                micro_batches=micro_batches,
                checkpoint=checkpoint,
            )
            outcome = self._outcome(evaluation, record, final=final)
            if not pictured:
                return outcome
            pictures = self._pictures(evaluation, train_items, evaluation_items)
            return replace(outcome, pictures=pictures)

    def final_model(self, setting: Setting, *, seed: int) -> EmbeddingModel:
        """Train with a setting on everything but the test set, and do not evaluate.

        The model is the one that :meth:`run` evaluates on the test set with the same seed.

        Args:
            setting:
                Every hyper-parameter of the search space.
            seed:
                Of weights, batches, augmentation and dropout.

        Returns:
            From images to embeddings, on the CPU, in evaluation mode.

        Raises:
            InfeasibleSettingError: As :meth:`run`.
        """
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

    def _trained(
        self,
        setting: Setting,
        train_items: np.ndarray,
        seed: int,
        evaluate: Callable[[nn.Module], tuple[float, Any]],
        *,
        on_evaluation: Callable[[int, float], None] = lambda number, value: None,
        micro_batches: MicroBatches | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> tuple[nn.Module, TrainingRecord, Any]:
        """The model, what its training was like, and its last evaluation; arguments are those of
        :func:`train`."""

        def note(number: int, value: float) -> None:
            on_evaluation(number, value)
            self._ranks.meet()

        regime = self._prepared()
        batch_size = setting["batch_size"]
        n_steps = self.training.n_steps(batch_size)
        try:
            batches = self._batches(train_items, batch_size, n_steps, seed)
        except ValueError as error:
            raise InfeasibleSettingError(f"no batches: {error}") from error
        on_cuda = self.device.type == "cuda"
        with (
            torch.random.fork_rng(devices=[self.device] if on_cuda else []),
            _one_thread(not on_cuda and self._has_short_steps),
            self._ranks.together(
                self.device, setting=setting, items=train_items.tolist(), seed=seed
            ),
        ):
            torch.manual_seed(seed)
            model = regime.model(train_items)
            if self.training.batch_norm == SYNCHRONISED:
                model = convert_sync_batchnorm(model)
            record, evaluation = train(
                model,
                _loss(self.space.loss, setting, gather=self._ranks.size > 1),
                regime.ahead(self._steps(train_items, batches)),
                regime.training_inputs,
                self._targets(),
                options=self.training,
                batch_size=batch_size,
                learning_rate=setting["learning_rate"],
                weight_decay=setting["weight_decay"],
                evaluate=partial(evaluate, model),
                on_evaluation=note,
                micro_batches=micro_batches or self._micro_batches(),
                checkpoint=checkpoint,
                ranks=self._ranks,
            )
        return model, record, evaluation

    def _micro_batches(self) -> MicroBatches:
        """Of processes that train together, none can repeat a step alone."""
        repeatable = self._ranks.size == 1 or self.training.micro_batch != AUTO
        return MicroBatches(self.training.micro_batch if repeatable else WHOLE)

    def _checkpoint(self, **work: Any) -> Checkpoint:
        """Of what this objective does on a device of this kind."""
        return self._checkpoints.of(
            {"objective": self._description, "device": self.device.type, **work}
        )

    @cached_property
    def _description(self) -> dict[str, Any]:
        # It takes a digest of the weights' file.
        return self.description

    def _steps(self, items: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            if self._on_step is not None:
                self._on_step()
            yield np.split(items[batch], self._ranks.size)[self._ranks.rank]

    @property
    def _has_short_steps(self) -> bool:
        """Whether a step takes a CPU milliseconds."""
        return False

    def _prepared(self) -> Regime:
        if self._regime is None:
            self._regime = self._make_regime()
        return self._regime

    def _check_batch_sizes(self) -> None:
        """That the sampler can fill them, and the budget has room for one."""
        for (train_part, _), batch_size in product(
            self.divisions(VALIDATION), self.space.batch_sizes
        ):
            self._batches(self._items(train_part), batch_size, 0, self.seed)
            if batch_size > self.training.samples:
                raise ValueError(
                    f"`samples` is {self.training.samples}; it should be at least the largest "
                    f"batch size, {batch_size}."
                )


def _earlier(checkpoint: Checkpoint) -> tuple[list[Outcome], list[list[float]]]:
    """Of the trainings that had ended: outcomes, and the values of all evaluations."""
    saved = checkpoint.read()
    if saved is None:
        return [], []
    try:
        return [EarlierOutcome.of(plain) for plain in saved["outcomes"]], saved["values"]
    except (KeyError, TypeError):
        checkpoint.reject("does not fit these trainings")
        return [], []


def _loss(name: str, setting: Setting, *, gather: bool) -> SplitLoss:
    balance = setting["balance"]
    if name == "infonce":
        temperature, denominator = setting["temperature"], setting["denominator"]
        return SplitInfoNCELoss(balance, temperature, denominator, gather=gather)
    return SplitMarginLoss(balance, setting["margin"], setting["aggregation"], gather=gather)


@contextmanager
def _one_thread(active: bool) -> Iterator[None]:
    """torch on one core: where each step is short, several wait for one another, and on a busy
    machine for long."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1 if active else n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _digest(items: np.ndarray) -> str:
    return hashlib.sha256(items.tobytes()).hexdigest()


def _digest_of_classes(dataset: LabelledImages) -> str:
    """Tells data sets of one name apart, by the names and labels of their classes, and queries."""
    names = "\0".join(dataset.class_names).encode("utf-8", "surrogateescape")
    queries = np.flatnonzero(dataset.is_query)
    return hashlib.sha256(names + dataset.labels.tobytes() + queries.tobytes()).hexdigest()[:16]
