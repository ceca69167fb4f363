"""Trains a model with a setting on images, in this process or as one of several."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from timm.layers.norm_act import convert_sync_batchnorm
import torch
from torch import nn

from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import LabelledImages
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.objectives.checks import check_statistics
from cbal_optuna.objectives.checks import check_whole
from cbal_optuna.objectives.checks import device_of
from cbal_optuna.objectives.infeasible import InfeasibleSettingError
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.search_space import Setting
from cbal_optuna.training import AUTO
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import check_compiler
from cbal_optuna.training import Checkpoint
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import MicroBatches
from cbal_optuna.training import OneProcess
from cbal_optuna.training import Ranks
from cbal_optuna.training import Regime
from cbal_optuna.training import SYNCHRONISED
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import TrainingRecord
from cbal_optuna.training import WHOLE


class Trainer(ABC):
    """What is trained, and how; subclasses say the former."""

    def __init__(
        self,
        dataset: LabelledImages,
        *,
        space: SearchSpace,
        training: TrainingOptions,
        backbone: BackboneOptions,
        embedding_dim: int,
        device: str,
        seed: int,
        cache_directory: str | Path | None,
        cache_images: bool,
        checkpoints: Checkpoints | None,
        on_step: Callable[[], None],
    ) -> None:
        if backbone.image_size is not None:
            check_whole(1, image_size=backbone.image_size)
        check_whole(1, embedding_dim=embedding_dim)
        check_whole(0, seed=seed)
        self.dataset = dataset
        self.space = space
        self.training = training
        self.seed = int(seed)
        self.device = device_of(device)
        self._backbone = backbone
        self._embedding_dim = embedding_dim
        self._cache_directory = Path(cache_directory or default_cache_directory())
        self._image_directory = self._cache_directory if cache_images else None
        self._checkpoints = checkpoints or Checkpoints(self._cache_directory / "checkpoints")
        self._on_step: Callable[[], None] | None = on_step
        self._regime: Regime | None = None
        self._ranks = OneProcess()

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to the process."""
        return {**self.__dict__, "_on_step": None, "_regime": None}

    @abstractmethod
    def _make_regime(self) -> Regime:
        """What is trained, and its inputs."""

    @abstractmethod
    def _batches(
        self, items: np.ndarray, batch_size: int, n_steps: int, seed: int
    ) -> Iterable[np.ndarray]:
        """Batches of positions in ``items``; ValueError if they cannot be filled."""

    @abstractmethod
    def _targets(self) -> np.ndarray:
        """What the loss takes as the class of every image, int64 of shape (n_images,)."""

    @property
    def description(self) -> dict[str, Any]:
        """What trials must have in common to be compared, by name, in plain JSON types."""
        training = asdict(self.training)
        # A study may go on where there is less memory; its trials say what theirs was.
        del training["micro_batch"]
        # Or where there is a compiler, or none.
        del training["compile"]
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

        def take_part(work: dict[str, Any]) -> None:
            items = np.array(work["items"])
            self._trained(work["setting"], items, work["seed"], lambda model: (math.nan, None))

        self._ranks.follow(take_part)

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

    def _steps(self, items: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            if self._on_step is not None:
                self._on_step()
            yield np.split(items[batch], self._ranks.size)[self._ranks.rank]

    @property
    def _has_short_steps(self) -> bool:
        """Whether a step takes a CPU milliseconds."""
        return False

    @property
    def _views(self) -> int:
        """Of each image of a batch."""
        return 1

    def _prepared(self) -> Regime:
        if self._regime is None:
            if self.training.compile:
                check_compiler(self.device)
            self._regime = self._make_regime()
            if self._regime.has_batch_norm:
                shares = [self._views * n // self._ranks.size for n in self.space.batch_sizes]
                check_statistics(self.training, shares)
        return self._regime


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


def _digest_of_classes(dataset: LabelledImages) -> str:
    """Tells data sets of one name apart, by the names and labels of their classes, and queries."""
    names = "\0".join(dataset.class_names).encode("utf-8", "surrogateescape")
    queries = np.flatnonzero(dataset.is_query)
    return hashlib.sha256(names + dataset.labels.tobytes() + queries.tobytes()).hexdigest()[:16]
