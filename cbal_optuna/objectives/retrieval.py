"""The objective of metric learning: train with a setting, return the validation classes' MAP@R."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import dataclass
import hashlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import Trial
import timm
import torch
from torch import Tensor

from cbal_optuna.data import class_splits
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import indices_of
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import MPerClassBatchSampler
from cbal_optuna.evaluation import normalized_mutual_information
from cbal_optuna.evaluation import retrieval_metrics
from cbal_optuna.evaluation import RetrievalMetrics
from cbal_optuna.feasibility import record_feasibility
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.search_space import Setting
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import DivergedError
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import HeadOnly
from cbal_optuna.training import is_out_of_memory
from cbal_optuna.training import MicroBatches
from cbal_optuna.training import Regime
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import TrainingRecord
from cbal_optuna.version import __version__


# Up to this side, in pixels, a step takes a CPU milliseconds.
_SMALL_IMAGE = 64


class InfeasibleSettingError(RuntimeError):
    """A setting with which no training comes to its end."""


@dataclass(frozen=True)
class Outcome:
    """One training and its evaluation."""

    metrics: RetrievalMetrics
    nmi: float
    record: TrainingRecord

    def attributes(self) -> dict[str, float]:
        """By the names under which they are stored."""
        record = {k: v for k, v in asdict(self.record).items() if v is not None}
        return {
            "map_at_r": self.metrics.map_at_r,
            "r_precision": self.metrics.r_precision,
            **{f"recall_at_{k}": v for k, v in self.metrics.recall.items()},
            "nmi": self.nmi,
            **record,
        }


class RetrievalObjective:
    """Trains an embedding with the setting of a trial and returns its MAP@R on validation classes,
    to be maximised.

    Classes are split as in Musgrave et al., "A Metric Learning Reality Check": the second half is
    kept for the test, the first half is divided into training and validation classes. Where a data
    set has an official test set, or queries and a gallery, the test follows it; NMI is always that
    of all images.

    The value is that of the *last* evaluation, not of the best one: the learning rate has fallen
    to zero by then, so it is what the training arrives at, while the best of several noisy
    evaluations is too high, and the more so the more often one looks. With repeats or folds it is
    the mean over them; all trials use the same seeds. Run trials in parallel in processes: threads
    (Optuna's ``n_jobs``) share torch's random state, and with them no value is reproducible.

    Each evaluation is reported to the pruner. A training that diverges, runs out of memory or
    cannot fill its batches makes the trial infeasible: its value is 0, the least that MAP@R can
    be, the constraint ``"trainable"`` is violated, and the reason stands in the user attribute
    ``infeasible``. Before it gives up for lack of memory, batches go through the model in
    micro-batches, unless ``training`` says otherwise; the user attribute ``micro_batch`` says how
    many images did so at once.

    Args:
        dataset:
            The images.
        backbone:
            Any name that timm knows.
        weights:
            ``"pretrained"``, ``"random"`` or the path of a weights file: see
            :class:`~cbal_optuna.training.BackboneOptions`.
        head_only:
            Whether the backbone is frozen: its features are extracted once and the head alone is
            trained.
        image_size:
            Side of the images in pixels; by default what the backbone was made for.
        embedding_dim:
            Width of the embeddings.
        loss:
            ``"infonce"`` or ``"margin"``; by default that of the space, else ``"infonce"``.
        space:
            What is searched; by default :class:`SearchSpace` of the loss.
        training:
            Budget, images per class, learning-rate rule, number of evaluations, micro-batches.
        augmentation:
            What is done to training images, unless only the head is trained.
        repeats:
            Trainings per trial, with different seeds.
        folds:
            Class-disjoint validation folds, each trained for.
        test_share:
            Share of the classes that is kept for the test; by default the data set's own.
        device:
            ``"auto"`` (a CUDA device if there is one), or any name that torch knows.
        seed:
            Of the trainings.
        cache_directory:
            Where decoded images and features are kept; see
            :func:`~cbal_optuna.data.default_cache_directory`.
        on_step:
            Called before each training step; what it raises ends the trial.

    Raises:
        ValueError: An argument is out of its range, or does not fit the data.
        OSError: The cache cannot be written.
    """

    def __init__(
        self,
        dataset: LabelledImages,
        *,
        backbone: str = "resnet50",
        weights: str | Path = "pretrained",
        head_only: bool = False,
        image_size: int | None = None,
        embedding_dim: int = 128,
        loss: str | None = None,
        space: SearchSpace | None = None,
        training: TrainingOptions | None = None,
        augmentation: Augmentation | None = None,
        repeats: int = 1,
        folds: int = 1,
        test_share: float | None = None,
        device: str = "auto",
        seed: int = 0,
        cache_directory: Path | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.space = SearchSpace(loss or "infonce") if space is None else space
        if loss not in (None, self.space.loss):
            raise ValueError(f"`space` is of the {self.space.loss} loss; `loss` is {loss!r}.")
        _check_positive(image_size=image_size, embedding_dim=embedding_dim, repeats=repeats)
        self.training = training or TrainingOptions(samples=100_000)
        if self.training.images_per_class < 2:
            raise ValueError(
                f"`images_per_class` is {self.training.images_per_class}; it should be at least "
                "2, as an image that is alone in its class has no positives."
            )
        self.dataset = dataset
        self.splits = class_splits(
            dataset.n_classes,
            folds=folds,
            test_share=dataset.test_share if test_share is None else test_share,
        )
        self.repeats = repeats
        self.seed = seed
        self._check_batch_sizes()
        self._check_evaluation_classes()
        self.device = _device(device)
        self._backbone = BackboneOptions(backbone, weights, image_size)
        self._head_only = head_only
        self._embedding_dim = embedding_dim
        self._augmentation = augmentation or Augmentation()
        self._cache_directory = cache_directory or default_cache_directory()
        self._on_step = on_step
        self._regime: Regime | None = None

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
            "head_only": self._head_only,
            "augmentation": None if self._head_only else asdict(self._augmentation),
            "embedding_dim": self._embedding_dim,
            "loss": self.space.loss,
            "space": self.space.description,
            **training,
            "repeats": self.repeats,
            "folds": len(self.splits),
            "test_classes": len(self.splits[0].test),
            "seed": self.seed,
        }

    def prepare(self) -> None:
        """Make the backbone and decode the images or extract their features, if they are not in
        the cache.

        A trial does this too; by itself it tells bad input from bad trials.
        """
        self._prepared()

    def __call__(self, trial: Trial) -> float:
        setting = self.space.suggest(trial)
        trial.set_user_attr("seed", self.seed)
        trial.set_user_attr("versions", _versions())
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
        values = [outcome.metrics.map_at_r for outcome in outcomes]
        trial.set_user_attr("values", values)
        record_feasibility(trial, "trainable", feasible=True)
        return float(np.mean(values))

    def _outcomes(self, trial: Trial, setting: Setting) -> list[Outcome]:
        runs = [(split, r) for split in self.splits for r in range(self.repeats)]
        outcomes = []
        micro_batches = MicroBatches(self.training.micro_batch)
        for i, (split, r) in enumerate(runs):

            def report(evaluation: int, map_at_r: float, first: int = i) -> None:
                trial.report(map_at_r, first * self.training.n_evaluations + evaluation)
                if trial.should_prune():
                    raise optuna.TrialPruned

            outcomes.append(
                self.run(
                    setting,
                    split.train,
                    split.validation,
                    seed=self.seed + r,
                    on_evaluation=report,
                    micro_batches=micro_batches,
                )
            )
        return outcomes

    def run(
        self,
        setting: Setting,
        train_classes: tuple[int, ...],
        evaluation_classes: tuple[int, ...],
        *,
        seed: int,
        on_evaluation: Callable[[int, float], None] | None = None,
        micro_batches: MicroBatches | None = None,
    ) -> Outcome:
        """Train with a setting on some classes, evaluate on others.

        Args:
            setting:
                Every hyper-parameter of the search space.
            train_classes, evaluation_classes:
                Classes, by number.
            seed:
                Of weights, batches, augmentation and dropout.
            on_evaluation:
                Called with the number of each evaluation and its MAP@R.
            micro_batches:
                Those of earlier trainings with this setting; by default new ones.

        Raises:
            InfeasibleSettingError: The training diverges, runs out of memory or cannot fill its
            batches.
        """
        try:
            return self._run(
                setting, train_classes, evaluation_classes, seed, on_evaluation, micro_batches
            )
        except DivergedError as error:
            raise InfeasibleSettingError(f"diverged: {error}") from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise InfeasibleSettingError(f"out of memory: {error}") from error

    def _run(
        self,
        setting: Setting,
        train_classes: tuple[int, ...],
        evaluation_classes: tuple[int, ...],
        seed: int,
        on_evaluation: Callable[[int, float], None] | None,
        micro_batches: MicroBatches | None,
    ) -> Outcome:
        regime = self._prepared()
        labels = self.dataset.labels
        train_items = indices_of(labels, train_classes)
        evaluation_items = indices_of(labels, evaluation_classes)
        evaluation_labels = torch.from_numpy(labels[evaluation_items])
        batch_size = setting["batch_size"]
        n_steps = self.training.n_steps(batch_size)
        try:
            batches = self._batches(labels[train_items], batch_size, n_steps, seed)
        except ValueError as error:
            raise InfeasibleSettingError(f"no batches: {error}") from error

        def evaluate(number: int) -> tuple[Tensor, RetrievalMetrics]:
            embeddings = regime.embed(model, evaluation_items)
            if not embeddings.isfinite().all():
                raise DivergedError("the embeddings were not finite")
            metrics = self._metrics(embeddings, evaluation_items)
            if on_evaluation is not None:
                on_evaluation(number, metrics.map_at_r)
            return embeddings, metrics

        on_cuda = self.device.type == "cuda"
        with (
            torch.random.fork_rng(devices=[self.device] if on_cuda else []),
            _one_thread(not on_cuda and self._is_small),
        ):
            torch.manual_seed(seed)
            model = regime.model(train_items)
            record, (embeddings, metrics) = train(
                model,
                _loss(self.space.loss, setting),
                self._steps(train_items, batches),
                regime.training_inputs,
                labels,
                options=self.training,
                batch_size=batch_size,
                learning_rate=setting["learning_rate"],
                weight_decay=setting["weight_decay"],
                evaluate=evaluate,
                micro_batches=micro_batches,
            )
        nmi = normalized_mutual_information(embeddings, evaluation_labels)
        return Outcome(metrics, nmi, record)

    def _metrics(self, embeddings: Tensor, items: np.ndarray) -> RetrievalMetrics:
        labels = torch.from_numpy(self.dataset.labels[items])
        is_query = torch.from_numpy(self.dataset.is_query[items])
        if not is_query.any():
            return retrieval_metrics(embeddings, labels)
        return retrieval_metrics(
            embeddings[is_query], labels[is_query], embeddings[~is_query], labels[~is_query]
        )

    def _steps(self, items: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            self._on_step()
            yield items[batch]

    def _batches(
        self, labels: np.ndarray, batch_size: int, n_steps: int, seed: int
    ) -> MPerClassBatchSampler:
        return MPerClassBatchSampler(
            labels,
            batch_size=batch_size,
            images_per_class=self.training.images_per_class,
            n_batches=n_steps,
            generator=np.random.default_rng(seed),
        )

    @property
    def _is_small(self) -> bool:
        image_size = self._backbone.image_size
        return self._head_only or (image_size is not None and image_size <= _SMALL_IMAGE)

    def _prepared(self) -> Regime:
        if self._regime is None:
            common: dict[str, Any] = {
                "embedding_dim": self._embedding_dim,
                "device": self.device,
                "cache_directory": self._cache_directory,
            }
            if self._head_only:
                self._regime = HeadOnly(self.dataset, self._backbone, **common)
            else:
                self._regime = EndToEnd(
                    self.dataset, self._backbone, augmentation=self._augmentation, **common
                )
        return self._regime

    def _check_batch_sizes(self) -> None:
        """That the sampler can fill them, and the budget has room for one."""
        for split, batch_size in product(self.splits, self.space.batch_sizes):
            labels = self.dataset.labels[indices_of(self.dataset.labels, split.train)]
            self._batches(labels, batch_size, 0, self.seed)
            if batch_size > self.training.samples:
                raise ValueError(
                    f"`samples` is {self.training.samples}; it should be at least the largest "
                    f"batch size, {batch_size}."
                )

    def _check_evaluation_classes(self) -> None:
        """That a query can have a match, and clusters can differ from classes."""
        for classes in (*(split.validation for split in self.splits), self.splits[0].test):
            items = indices_of(self.dataset.labels, classes)
            labels, is_query = self.dataset.labels[items], self.dataset.is_query[items]
            if len(items) == len(classes):
                raise ValueError(
                    f"`dataset` {self.dataset.name} has one image in each of the classes to "
                    "evaluate on; some should have two or more."
                )
            if is_query.any() and not np.isin(labels[is_query], labels[~is_query]).any():
                raise ValueError(
                    f"`dataset` {self.dataset.name} has no query with an image of its class in "
                    "the gallery; some should have one or more."
                )


def _loss(name: str, setting: Setting) -> SplitLoss:
    if name == "infonce":
        return SplitInfoNCELoss(setting["balance"], setting["temperature"], setting["denominator"])
    return SplitMarginLoss(setting["balance"], setting["margin"], setting["aggregation"])


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


def _check_positive(**arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and value < 1:
            raise ValueError(f"`{name}` is {value}; it should be at least 1.")


def _versions() -> dict[str, str]:
    modules = {m.__name__: m.__version__ for m in (optuna, timm, torch)}
    return {"cbal_optuna": __version__, **modules}
