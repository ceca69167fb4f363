"""The objective of metric learning: train with a setting, return the validation classes' MAP@R."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.data import class_splits
from cbal_optuna.data import indices_of
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import MPerClassBatchSampler
from cbal_optuna.evaluation import embedding_spread
from cbal_optuna.evaluation import EmbeddingSpread
from cbal_optuna.evaluation import normalized_mutual_information
from cbal_optuna.evaluation import retrieval_metrics
from cbal_optuna.evaluation import RetrievalMetrics
from cbal_optuna.objectives.checks import check_compiled
from cbal_optuna.objectives.checks import check_retrievable
from cbal_optuna.objectives.checks import check_space
from cbal_optuna.objectives.objective import Objective
from cbal_optuna.objectives.outcome import collapse_remark
from cbal_optuna.objectives.outcome import Outcome
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.trainings import Part
from cbal_optuna.objectives.trainings import TEST
from cbal_optuna.objectives.trainings import VALIDATION
from cbal_optuna.pictures import Embedded
from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import pictures_of
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import DivergedError
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import HeadOnly
from cbal_optuna.training import Regime
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import TrainingRecord


# Up to this side, in pixels, a step takes a CPU milliseconds.
_SMALL_IMAGE = 64
_RECALL_AT = (1, 2, 4, 8)


@dataclass(frozen=True)
class RetrievalOutcome(Outcome):
    """One training and how well its embeddings find images of the same class."""

    metrics: RetrievalMetrics
    nmi: float
    spread: EmbeddingSpread

    def measures(self) -> dict[str, float]:
        return {
            "map_at_r": self.metrics.map_at_r,
            "r_precision": self.metrics.r_precision,
            **{f"recall_at_{k}": v for k, v in self.metrics.recall.items()},
            "nmi": self.nmi,
        }

    @property
    def remarks(self) -> dict[str, str]:
        return collapse_remark(self.spread)


class RetrievalObjective(Objective[RetrievalOutcome]):
    """Trains an embedding with the setting of a trial and returns its MAP@R on validation classes,
    to be maximised.

    Classes are split as in Musgrave et al., "A Metric Learning Reality Check": the second half is
    kept for the test, the first half is divided into training and validation classes. Where a data
    set has an official test set, or queries and a gallery, the test follows it; NMI is always that
    of all images.

    What a trial does, and when it is infeasible, is said in :class:`Objective`.

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
        prune:
            Whether to end a trial before its last fold or repeat once it is clearly worse than the
            best one.
        test_share:
            Share of the classes that is kept for the test; by default the data set's own.
        device:
            ``"auto"`` (a CUDA device if there is one), or any name that torch knows.
        seed:
            Of the trainings.
        cache_directory:
            Where decoded images and features are kept; see
            :func:`~cbal_optuna.data.default_cache_directory`.
        cache_images:
            Whether to keep decoded images; else they are decoded each time, by threads, while the
            batch before trains: for data whose decoded images have no room on a disk.
        checkpoints:
            Where trainings in progress are kept; by default the folder ``checkpoints`` of the
            cache.
        on_step:
            Called before each training step, also those that a resumed trial had done already;
            what it raises ends the trial.

    Raises:
        ValueError: An argument is out of its range, or does not fit the data.
        OSError: The cache cannot be written.
    """

    held_out = "classes"

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
        prune: bool = True,
        test_share: float | None = None,
        device: str = "auto",
        seed: int = 0,
        cache_directory: str | Path | None = None,
        cache_images: bool = True,
        checkpoints: Checkpoints | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        training = training or TrainingOptions(samples=100_000)
        if training.images_per_class < 2:
            raise ValueError(
                f"`images_per_class` is {training.images_per_class}; it should be at least 2, as "
                "an image that is alone in its class has no positives."
            )
        check_compiled(training, head_only=head_only)
        self._head_only = head_only
        self._augmentation = augmentation or Augmentation()
        super().__init__(
            dataset,
            space=check_space(space or SearchSpace(loss or "infonce"), loss),
            splits=class_splits(
                dataset.n_classes,
                folds=folds,
                test_share=dataset.test_share if test_share is None else test_share,
            ),
            training=training,
            backbone=BackboneOptions(backbone, weights, image_size),
            embedding_dim=embedding_dim,
            repeats=repeats,
            prune=prune,
            device=device,
            seed=seed,
            cache_directory=cache_directory,
            cache_images=cache_images,
            checkpoints=checkpoints,
            on_step=on_step,
        )
        for part in (VALIDATION, TEST):
            for _, classes in self.divisions(part):
                check_retrievable(dataset, self._items(classes))

    @classmethod
    def measures(cls, part: str) -> tuple[str, ...]:
        return ("map_at_r", "r_precision", *(f"recall_at_{k}" for k in _RECALL_AT), "nmi")

    @property
    def description(self) -> dict[str, Any]:
        return {
            **super().description,
            "head_only": self._head_only,
            "augmentation": None if self._head_only else asdict(self._augmentation),
            "test_classes": len(self.splits[0].test),
        }

    def _make_regime(self) -> Regime:
        if self._head_only:
            return HeadOnly(
                self.dataset,
                self._backbone,
                embedding_dim=self._embedding_dim,
                device=self.device,
                cache_directory=self._cache_directory,
            )
        return EndToEnd(
            self.dataset,
            self._backbone,
            embedding_dim=self._embedding_dim,
            augmentation=self._augmentation,
            device=self.device,
            cache_directory=self._image_directory,
        )

    @property
    def _has_short_steps(self) -> bool:
        image_size = self._backbone.image_size
        return self._head_only or (image_size is not None and image_size <= _SMALL_IMAGE)

    def _items(self, part: Part) -> np.ndarray:
        return indices_of(self.dataset.labels, part)

    def _batches(
        self, items: np.ndarray, batch_size: int, n_steps: int, seed: int
    ) -> Iterable[np.ndarray]:
        return MPerClassBatchSampler(
            self.dataset.labels[items],
            batch_size=batch_size,
            images_per_class=self.training.images_per_class,
            n_batches=n_steps,
            generator=np.random.default_rng(seed),
        )

    def _targets(self) -> np.ndarray:
        return self.dataset.labels

    def _evaluated(
        self,
        regime: Regime,
        model: nn.Module,
        train_items: np.ndarray,
        evaluation_items: np.ndarray,
        *,
        final: bool,
    ) -> tuple[float, Any]:
        embeddings = regime.embed(model, evaluation_items)
        if not embeddings.isfinite().all():
            raise DivergedError("the embeddings were not finite")
        labels = torch.from_numpy(self.dataset.labels[evaluation_items])
        metrics = self._metrics(embeddings, labels, evaluation_items)
        return metrics.map_at_r, (embeddings, labels, metrics)

    def _metrics(self, embeddings: Tensor, labels: Tensor, items: np.ndarray) -> RetrievalMetrics:
        is_query = torch.from_numpy(self.dataset.is_query[items])
        if not is_query.any():
            return retrieval_metrics(embeddings, labels, ks=_RECALL_AT)
        return retrieval_metrics(
            embeddings[is_query],
            labels[is_query],
            embeddings[~is_query],
            labels[~is_query],
            ks=_RECALL_AT,
        )

    def _outcome(
        self, evaluation: Any, record: TrainingRecord, *, final: bool
    ) -> RetrievalOutcome:
        embeddings, labels, metrics = evaluation
        return RetrievalOutcome(
            record,
            metrics,
            normalized_mutual_information(embeddings, labels),
            embedding_spread(embeddings),
        )

    def _pictures(
        self, evaluation: Any, train_items: np.ndarray, evaluation_items: np.ndarray
    ) -> Pictures:
        embeddings, _, _ = evaluation
        images = Embedded(evaluation_items, embeddings)
        is_query = self.dataset.is_query[evaluation_items]
        if not is_query.any():
            return pictures_of(self.dataset, images)
        return pictures_of(self.dataset, images, images.of(is_query), images.of(~is_query))
