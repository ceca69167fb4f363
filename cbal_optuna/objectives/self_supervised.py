"""The objective of self-supervised learning: train on views of images without their labels, return
the accuracy of nearest neighbours among the features."""

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

from cbal_optuna.data import drawn_from_classes
from cbal_optuna.data import image_splits
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import ViewBatchSampler
from cbal_optuna.evaluation import embedding_spread
from cbal_optuna.evaluation import EmbeddingSpread
from cbal_optuna.evaluation import knn_accuracy
from cbal_optuna.evaluation import linear_probe_accuracy
from cbal_optuna.objectives.checks import check_space
from cbal_optuna.objectives.checks import check_whole
from cbal_optuna.objectives.objective import Objective
from cbal_optuna.objectives.outcome import collapse_remark
from cbal_optuna.objectives.outcome import Outcome
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.search_space import SelfSupervisedSpace
from cbal_optuna.objectives.trainings import Part
from cbal_optuna.objectives.trainings import TEST
from cbal_optuna.pictures import Embedded
from cbal_optuna.pictures import Pictures
from cbal_optuna.pictures import pictures_of
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import DivergedError
from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import MLP
from cbal_optuna.training import Regime
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import TrainingRecord
from cbal_optuna.training import ViewAugmentation


_VIEWS = 2


@dataclass(frozen=True)
class SelfSupervisedOutcome(Outcome):
    """One training without labels, and what its features are good for.

    Attributes:
        knn_accuracy:
            Of the features, by :func:`~cbal_optuna.evaluation.knn_accuracy`.
        spread:
            Of the embeddings.
        linear_accuracy:
            Of the features; only at the end of a study.
    """

    knn_accuracy: float
    spread: EmbeddingSpread
    linear_accuracy: float | None = None

    def measures(self) -> dict[str, float]:
        linear = {} if self.linear_accuracy is None else {"linear_accuracy": self.linear_accuracy}
        return {"knn_accuracy": self.knn_accuracy, **linear, **asdict(self.spread)}

    @property
    def remarks(self) -> dict[str, str]:
        said = collapse_remark(self.spread)
        return {
            k: f"{v}; the accuracy is what the features have all the same" for k, v in said.items()
        }


class SelfSupervisedObjective(Objective[SelfSupervisedOutcome]):
    """Trains a backbone with a projection head, on two views of each image and without labels, and
    returns the accuracy of weighted nearest neighbours on held-out training images, to be
    maximised.

    In the loss an image is a class of its own: its views are each other's positives, those of the
    other images the negatives. Labels serve the evaluation alone: the held-out images are
    classified by the backbone's features, before the head, among those of the labelled training
    images. Test images play no part until ``run`` is asked for them; with ``final`` it also fits a
    linear classifier to the features.

    What a trial does, and when it is infeasible, is said in :class:`Objective`. A training whose
    embeddings collapse is not: its value is the accuracy that it has, as a rule a low one, which
    tells the search where not to go. It is marked by the user attribute ``collapsed``; the
    attributes ``effective_rank`` and ``spread`` say how far each trial is from that.

    Args:
        dataset:
            The images. Those without a label are for training.
        backbone:
            Any name that timm knows.
        weights:
            ``"random"``, ``"pretrained"`` or the path of a weights file: see
            :class:`~cbal_optuna.training.BackboneOptions`.
        small_stem:
            Whether the first convolution keeps the resolution, for images of 32 to 64 pixels.
        image_size:
            Side of the images in pixels; by default what the backbone was made for.
        embedding_dim:
            Width of the embeddings, which are what the loss sees.
        loss:
            ``"infonce"`` or ``"margin"``; by default that of the space, else ``"infonce"``.
        space:
            What is searched; by default :class:`SelfSupervisedSpace` of the loss. The batch size
            counts images, each of which stands in the batch with two views.
        training:
            Budget, in images of which two views are seen, learning-rate rule, number of
            evaluations, micro-batches (which count views). Images per class have no meaning here.
        augmentation:
            What makes views of images.
        gallery_images:
            How many of the labelled training images held-out ones are classified among, with the
            same share of each class, in all trials the same; by default all, which is what takes
            the time of short trials. With fewer, accuracies are lower. With ``final`` it is
            always all.
        repeats:
            Trainings per trial, with different seeds.
        folds:
            Disjoint validation sets, each held out in turn.
        prune:
            Whether to end a trial before its last fold or repeat once it is clearly worse than the
            best one.
        test_share:
            Share of the images that is kept for the test, unless the data set has official test
            images.
        device:
            ``"auto"`` (a CUDA device if there is one), or any name that torch knows.
        seed:
            Of the trainings.
        cache_directory:
            Where decoded images are kept; see
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

    held_out = "images"

    def __init__(
        self,
        dataset: LabelledImages,
        *,
        backbone: str = "resnet18",
        weights: str | Path = "random",
        small_stem: bool = False,
        image_size: int | None = None,
        embedding_dim: int = 128,
        loss: str | None = None,
        space: SearchSpace | None = None,
        training: TrainingOptions | None = None,
        augmentation: ViewAugmentation | None = None,
        gallery_images: int | None = None,
        repeats: int = 1,
        folds: int = 1,
        prune: bool = True,
        test_share: float = 0.2,
        device: str = "auto",
        seed: int = 0,
        cache_directory: str | Path | None = None,
        cache_images: bool = True,
        checkpoints: Checkpoints | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        if gallery_images is not None:
            check_whole(1, gallery_images=gallery_images)
        self._gallery_images = gallery_images
        self._augmentation = augmentation or ViewAugmentation()
        super().__init__(
            dataset,
            space=check_space(space or SelfSupervisedSpace(loss or "infonce"), loss),
            splits=image_splits(
                dataset.labels, dataset.test_images, folds=folds, test_share=test_share
            ),
            training=training or TrainingOptions(samples=1_000_000, n_evaluations=2),
            backbone=BackboneOptions(backbone, weights, image_size, small_stem),
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

    @classmethod
    def measures(cls, part: str) -> tuple[str, ...]:
        linear = ("linear_accuracy",) if part == TEST else ()
        return ("knn_accuracy", *linear, "spread", "effective_rank")

    @property
    def description(self) -> dict[str, Any]:
        description = super().description
        del description["images_per_class"]
        return {
            **description,
            "small_stem": self._backbone.small_stem,
            "augmentation": asdict(self._augmentation),
            "views": _VIEWS,
            "gallery_images": self._gallery_images,
            "validation_images": len(self.splits[0].validation),
            "test_images": len(self.splits[0].test),
        }

    def _make_regime(self) -> Regime:
        return EndToEnd(
            self.dataset,
            self._backbone,
            embedding_dim=self._embedding_dim,
            head=MLP,
            augmentation=self._augmentation,
            device=self.device,
            cache_directory=self._image_directory,
        )

    def _items(self, part: Part) -> np.ndarray:
        return np.asarray(part)

    def _batches(
        self, items: np.ndarray, batch_size: int, n_steps: int, seed: int
    ) -> Iterable[np.ndarray]:
        return ViewBatchSampler(
            len(items),
            batch_size=batch_size,
            views=_VIEWS,
            n_batches=n_steps,
            generator=np.random.default_rng(seed),
        )

    @property
    def _views(self) -> int:
        return _VIEWS

    def _targets(self) -> np.ndarray:
        return np.arange(len(self.dataset))

    def _evaluated(
        self,
        regime: Regime,
        model: nn.Module,
        train_items: np.ndarray,
        evaluation_items: np.ndarray,
        *,
        final: bool,
    ) -> tuple[float, Any]:
        assert isinstance(model, EmbeddingModel)
        labels, gallery = self.dataset.labels, self._gallery(train_items, whole=final)
        features = regime.embed(model.backbone, evaluation_items)
        gallery_features = regime.embed(model.backbone, gallery)
        embeddings = model.embedded(features)
        if not all(x.isfinite().all() for x in (features, gallery_features, embeddings)):
            raise DivergedError("the embeddings were not finite")
        classified = (
            features,
            torch.from_numpy(labels[evaluation_items]),
            gallery_features,
            torch.from_numpy(labels[gallery]),
        )
        accuracy = knn_accuracy(*classified)
        return accuracy, (classified, gallery, accuracy, embedding_spread(embeddings))

    def _outcome(
        self, evaluation: Any, record: TrainingRecord, *, final: bool
    ) -> SelfSupervisedOutcome:
        classified, _, accuracy, spread = evaluation
        linear = linear_probe_accuracy(*classified) if final else None
        return SelfSupervisedOutcome(record, accuracy, spread, linear)

    def _pictures(
        self, evaluation: Any, train_items: np.ndarray, evaluation_items: np.ndarray
    ) -> Pictures:
        (features, _, gallery_features, _), gallery, _, _ = evaluation
        return pictures_of(
            self.dataset,
            Embedded(evaluation_items, features),
            gallery=Embedded(gallery, gallery_features),
        )

    def _gallery(self, items: np.ndarray, *, whole: bool) -> np.ndarray:
        labelled = items[self.dataset.labels[items] >= 0]
        if whole or self._gallery_images is None:
            return labelled
        return labelled[drawn_from_classes(self.dataset.labels[labelled], self._gallery_images)]
