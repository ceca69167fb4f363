"""What all objectives have in common: a trial trains a model with its setting and evaluates it."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import dataclass
from functools import partial
import hashlib
from itertools import product
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Generic
from typing import TypeVar

import numpy as np
import optuna
from optuna.trial import Trial
from optuna.trial import TrialState
import timm
import torch
from torch import nn

from cbal_optuna.data import ClassSplit
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import ImageSplit
from cbal_optuna.data import LabelledImages
from cbal_optuna.feasibility import record_feasibility
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.objectives.racing import expected_mean
from cbal_optuna.objectives.racing import is_lost
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.search_space import Setting
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import DivergedError
from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import is_out_of_memory
from cbal_optuna.training import MicroBatches
from cbal_optuna.training import Regime
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import TrainingRecord
from cbal_optuna.version import __version__


VALIDATION = "validation"
TEST = "test"

# What is trained or evaluated on: classes, or images, by number.
Part = tuple[int, ...] | np.ndarray


class InfeasibleSettingError(RuntimeError):
    """A setting with which no training comes to its end."""


@dataclass(frozen=True)
class Outcome(ABC):
    """One training and its evaluation."""

    record: TrainingRecord

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
        """All numbers, by the names under which they are stored."""
        record = {k: v for k, v in asdict(self.record).items() if v is not None}
        return {**self.measures(), **record}


OutcomeT = TypeVar("OutcomeT", bound=Outcome, covariant=True)


class Objective(ABC, Generic[OutcomeT]):
    """Trains a model with the setting of a trial and returns how good it is, to be maximised.

    The value is that of the *last* evaluation, not of the best one: the learning rate has fallen
    to zero by then, so it is what the training arrives at, while the best of several noisy
    evaluations is too high, and the more so the more often one looks. With repeats or folds it is
    the mean over them; all trials use the same seeds. With ``prune``, a trial that after some of
    its trainings is clearly worse than the best one is spared the others: its value is what it
    would have come to, and the user attribute ``trainings`` says how many it had.

    Run trials in parallel in processes: threads (Optuna's ``n_jobs``) share torch's random state,
    and with them no value is reproducible.

    Each evaluation is reported to the pruner. A training that diverges, runs out of memory or
    cannot fill its batches makes the trial infeasible: its value is 0, the least that it can be,
    the constraint ``"trainable"`` is violated, and the reason stands in the user attribute
    ``infeasible``. Before it gives up for lack of memory, batches go through the model in
    micro-batches, unless ``training`` says otherwise; the user attribute ``micro_batch`` says how
    many images did so at once.

    Subclasses say what is trained on what, and how it is evaluated.
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
        repeats: int,
        prune: bool,
        device: str,
        seed: int,
        cache_directory: Path | None,
        on_step: Callable[[], None],
    ) -> None:
        check_positive(
            image_size=backbone.image_size, embedding_dim=embedding_dim, repeats=repeats
        )
        self.dataset = dataset
        self.space = space
        self.splits = splits
        self.training = training
        self.repeats = repeats
        self._prune = prune
        self.seed = seed
        self._check_batch_sizes()
        self.device = _device(device)
        self._backbone = backbone
        self._embedding_dim = embedding_dim
        self._cache_directory = cache_directory or default_cache_directory()
        self._on_step: Callable[[], None] | None = on_step
        self._regime: Regime | None = None

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

    @property
    def description(self) -> dict[str, Any]:
        """What trials must have in common to be compared, by name, in plain JSON types."""
        training = asdict(self.training)
        # A study may go on where there is less memory; its trials say what theirs was.
        del training["micro_batch"]
        return {
            "dataset": self.dataset.name,
            "images": len(self.dataset),
            "classes": _digest(self.dataset),
            "backbone": self._backbone.name,
            "weights": self._backbone.weights_fingerprint,
            "image_size": self._backbone.image_size,
            "embedding_dim": self._embedding_dim,
            "loss": self.space.loss,
            "space": self.space.description,
            **training,
            "repeats": self.repeats,
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

    def __call__(self, trial: Trial) -> float:
        setting = self.space.suggest(trial)
        trial.set_user_attr("seed", self.seed)
        trial.set_user_attr("versions", versions())
        try:
            outcomes = self._outcomes(trial, setting)
        except InfeasibleSettingError as error:
            trial.set_user_attr("infeasible", str(error))
            record_feasibility(trial, "trainable", feasible=False)
            return 0.0
        except (Exception, KeyboardInterrupt) as error:
            if not isinstance(error, optuna.TrialPruned):
                trial.set_user_attr("failure", f"{type(error).__name__}: {error}")
            raise
        attributes = [outcome.attributes() for outcome in outcomes]
        for name in attributes[0]:
            trial.set_user_attr(name, float(np.mean([a[name] for a in attributes])))
        for outcome in outcomes:
            for name, remark in outcome.remarks.items():
                trial.set_user_attr(name, remark)
        values = [outcome.value for outcome in outcomes]
        trial.set_user_attr("values", values)
        record_feasibility(trial, "trainable", feasible=True)
        if len(values) == self._n_trainings:
            return float(np.mean(values))
        trial.set_user_attr("trainings", len(values))
        return expected_mean(values, self._completed(trial))

    def _outcomes(self, trial: Trial, setting: Setting) -> list[OutcomeT]:
        runs = list(product(self.divisions(VALIDATION), range(self.repeats)))
        outcomes: list[OutcomeT] = []
        micro_batches = MicroBatches(self.training.micro_batch)
        completed = self._completed(trial) if self._prune and len(runs) > 1 else None
        for i, ((train_part, evaluation_part), repeat) in enumerate(runs):

            def report(evaluation: int, value: float, first: int = i) -> None:
                trial.report(value, first * self.training.n_evaluations + evaluation)
                if trial.should_prune():
                    raise optuna.TrialPruned

            outcomes.append(
                self.run(
                    setting,
                    train_part,
                    evaluation_part,
                    seed=self.seed + repeat,
                    on_evaluation=report,
                    micro_batches=micro_batches,
                )
            )
            if completed is not None and is_lost([o.value for o in outcomes], completed):
                break
        return outcomes

    @property
    def _n_trainings(self) -> int:
        """Of a trial."""
        return len(self.splits) * self.repeats

    def _completed(self, trial: Trial) -> np.ndarray:
        """The values of the trials that have had all trainings, of shape (trials, trainings)."""
        others = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [other.user_attrs.get("values", ()) for other in others]
        complete = [v for v in values if len(v) == self._n_trainings]
        return np.array(complete, dtype=float).reshape(-1, self._n_trainings)

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
        on_evaluation: Callable[[int, float], None] | None = None,
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
            on_evaluation:
                Called with the number of each evaluation and its value.
            micro_batches:
                Those of earlier trainings with this setting; by default new ones.

        Raises:
            InfeasibleSettingError: The training diverges, runs out of memory or cannot fill its
            batches.
        """
        train_items, evaluation_items = self._items(train_part), self._items(evaluation_part)

        def evaluate(model: nn.Module, number: int) -> Any:
            value, evaluation = self._evaluated(
                self._prepared(), model, train_items, evaluation_items
            )
            if on_evaluation is not None:
                on_evaluation(number, value)
            return evaluation

        with _infeasible_if_it_fails():
            _, record, evaluation = self._trained(
                setting, train_items, seed, evaluate, micro_batches
            )
            return self._outcome(evaluation, record, final=final)

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
        with _infeasible_if_it_fails():
            model, _, _ = self._trained(setting, items, seed, lambda model, number: None)
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
        evaluate: Callable[[nn.Module, int], Any],
        micro_batches: MicroBatches | None = None,
    ) -> tuple[nn.Module, TrainingRecord, Any]:
        """The model, what its training was like, and its last evaluation."""
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
        ):
            torch.manual_seed(seed)
            model = regime.model(train_items)
            record, evaluation = train(
                model,
                _loss(self.space.loss, setting),
                self._steps(train_items, batches),
                regime.training_inputs,
                self._targets(),
                options=self.training,
                batch_size=batch_size,
                learning_rate=setting["learning_rate"],
                weight_decay=setting["weight_decay"],
                evaluate=partial(evaluate, model),
                micro_batches=micro_batches,
            )
        return model, record, evaluation

    def _steps(self, items: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            if self._on_step is not None:
                self._on_step()
            yield items[batch]

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


def check_positive(**arguments: int | None) -> None:
    """Raises ValueError."""
    for name, value in arguments.items():
        if value is not None and value < 1:
            raise ValueError(f"`{name}` is {value}; it should be at least 1.")


def check_space(space: SearchSpace, loss: str | None) -> SearchSpace:
    """The space, if it is of the loss, if one is named; raises ValueError."""
    if loss not in (None, space.loss):
        raise ValueError(f"`space` is of the {space.loss} loss; `loss` is {loss!r}.")
    return space


def _loss(name: str, setting: Setting) -> SplitLoss:
    if name == "infonce":
        return SplitInfoNCELoss(setting["balance"], setting["temperature"], setting["denominator"])
    return SplitMarginLoss(setting["balance"], setting["margin"], setting["aggregation"])


@contextmanager
def _infeasible_if_it_fails() -> Iterator[None]:
    try:
        yield
    except DivergedError as error:
        raise InfeasibleSettingError(f"diverged: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InfeasibleSettingError(f"out of memory: {error}") from error


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


def _digest(dataset: LabelledImages) -> str:
    """Tells data sets of one name apart, by the names and labels of their classes, and queries."""
    names = "\0".join(dataset.class_names).encode("utf-8", "surrogateescape")
    queries = np.flatnonzero(dataset.is_query)
    return hashlib.sha256(names + dataset.labels.tobytes() + queries.tobytes()).hexdigest()[:16]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if not torch.amp.is_autocast_available(device.type):
            raise RuntimeError("no training on it")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`device` is {name!r}, which cannot be used here: {reason}") from error
    return device


def versions() -> dict[str, str]:
    """Of what a training depends on, by package."""
    modules = {m.__name__: m.__version__ for m in (optuna, timm, torch)}
    return {"cbal_optuna": __version__, **modules}
