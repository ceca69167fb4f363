"""What is trained: the whole network on images, or the head alone on the features of a frozen
backbone.

A regime makes the models of a study and gives them their inputs; the training loop and the
evaluation know nothing else.
"""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterable
from copy import deepcopy
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from cbal_optuna.data import cached_array
from cbal_optuna.data import decode_into
from cbal_optuna.data import LabelledImages
from cbal_optuna.plain_text import printable
from cbal_optuna.training.backbone import Backbone
from cbal_optuna.training.backbone import BackboneOptions
from cbal_optuna.training.backbone import RANDOM
from cbal_optuna.training.decoded_rows import DecodedRows
from cbal_optuna.training.device_rows import DeviceRows
from cbal_optuna.training.model import EmbeddingModel
from cbal_optuna.training.model import FeatureHead
from cbal_optuna.training.model import LINEAR
from cbal_optuna.training.model import MLP


_CHUNK = 256
# Of images that a CPU augments at once, as float32: they stay in its cache.
_AUGMENTED_BYTES = 2**21


class Regime(ABC):
    """Models and their inputs.

    ``items`` are indices of images, int64 of shape (n,).
    """

    @property
    def has_batch_norm(self) -> bool:
        """Whether the models have such layers."""
        return False

    @abstractmethod
    def model(self, training_items: np.ndarray) -> nn.Module:
        """A fresh model on the device, drawn from torch's global random state."""

    @abstractmethod
    def training_inputs(self, items: np.ndarray) -> Tensor:
        """What the model takes in training, of shape (n, ...), on the device."""

    @abstractmethod
    def inputs(self, items: np.ndarray) -> Tensor:
        """What the model takes in evaluation, of shape (n, ...), on the device."""

    def ahead(self, batches: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        """Batches of items, whose inputs are made ready before they are asked for, if that takes
        its time."""
        return batches

    @abstractmethod
    def whole(self, model: nn.Module) -> EmbeddingModel:
        """From images to embeddings, as a trained model of this regime embeds its inputs."""

    @torch.no_grad()
    def embed(self, model: nn.Module, items: np.ndarray) -> Tensor:
        """The embeddings of images, float32 of shape (n, embedding_dim), by the model in
        evaluation mode."""
        training = model.training
        model.eval()
        chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
        embeddings = [model(self.inputs(chunk)).float() for chunk in self.ahead(chunks)]
        model.train(training)
        return torch.cat(embeddings)


class EndToEnd(Regime):
    """Backbone and head are trained on augmented images.

    These are decoded once and kept in a cache file, from where they come as :class:`DeviceRows`
    do, or are decoded each time, as :class:`DecodedRows`; as uint8. They are augmented on the
    device.

    Args:
        dataset:
            The images.
        options:
            The backbone.
        embedding_dim:
            Width of the embeddings.
        head:
            What makes embeddings of features; see :class:`EmbeddingModel`.
        augmentation:
            What is done to training images.
        device:
            Where models and inputs are.
        cache_directory:
            Where decoded images are kept; :obj:`None` to decode them each time.
    """

    def __init__(
        self,
        dataset: LabelledImages,
        options: BackboneOptions,
        *,
        embedding_dim: int,
        head: str = LINEAR,
        augmentation: Callable[[Tensor], Tensor],
        device: torch.device,
        cache_directory: Path | None,
    ) -> None:
        self._options = options
        self._embedding_dim = embedding_dim
        self._head = head
        self._augmentation = augmentation
        self._device = device
        self._backbone = _backbone(options)
        size, interpolation = self._backbone.image_size, self._backbone.interpolation
        self._images: DecodedRows | DeviceRows
        if cache_directory is None:
            self._images = DecodedRows(dataset, size, interpolation, device)
        else:
            array = _decoded(dataset, size, interpolation, cache_directory)
            self._images = DeviceRows(array, device)

    @property
    def has_batch_norm(self) -> bool:
        layers = self._backbone.modules()
        return self._head == MLP or any(isinstance(layer, _BatchNorm) for layer in layers)

    def model(self, training_items: np.ndarray) -> nn.Module:
        redrawn = self._options.weights == RANDOM
        backbone = Backbone(self._options) if redrawn else deepcopy(self._backbone)
        model = EmbeddingModel(backbone, self._embedding_dim, self._head)
        return model.to(self._device).to(memory_format=torch.channels_last)

    def training_inputs(self, items: np.ndarray) -> Tensor:
        size = self._backbone.image_size
        batch = torch.empty(
            (len(items), 3, size, size),
            device=self._device,
            memory_format=torch.channels_last,
        )
        n = len(items)
        if self._device.type == "cpu":
            n = max(1, _AUGMENTED_BYTES // batch[0].nbytes)
        images = self._images(items)
        for start in range(0, len(items), n):
            part = slice(start, start + n)
            batch[part] = self._augmentation(_as_floats(images[part]))
        return batch

    def inputs(self, items: np.ndarray) -> Tensor:
        return _as_floats(self._images(items))

    def ahead(self, batches: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        # The cores of a CPU have the training to do meanwhile: it took longer, not shorter.
        return batches if self._device.type == "cpu" else self._images.ahead(batches)

    def whole(self, model: nn.Module) -> EmbeddingModel:
        assert isinstance(model, EmbeddingModel)
        return model


class HeadOnly(Regime):
    """A linear head is trained on the features of a frozen backbone, extracted once and kept in a
    cache file.

    Args:
        dataset:
            The images.
        options:
            The backbone.
        embedding_dim:
            Width of the embeddings.
        device:
            Where models and inputs are.
        cache_directory:
            Where features are kept.
    """

    def __init__(
        self,
        dataset: LabelledImages,
        options: BackboneOptions,
        *,
        embedding_dim: int,
        device: torch.device,
        cache_directory: Path,
    ) -> None:
        self._options = options
        self._embedding_dim = embedding_dim
        self._device = device
        self._features = DeviceRows(_extracted(dataset, options, device, cache_directory), device)

    def model(self, training_items: np.ndarray) -> nn.Module:
        return FeatureHead(self.inputs(training_items), self._embedding_dim).to(self._device)

    def training_inputs(self, items: np.ndarray) -> Tensor:
        return self.inputs(items)

    def inputs(self, items: np.ndarray) -> Tensor:
        return self._features(items)

    def whole(self, model: nn.Module) -> EmbeddingModel:
        assert isinstance(model, FeatureHead)
        whole = EmbeddingModel(_backbone(self._options), self._embedding_dim)
        whole.head = model.folded()
        return whole


def _backbone(options: BackboneOptions) -> Backbone:
    """A backbone on the CPU; random weights are the same in every process, as the cache takes them
    to be."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Backbone(options)


def _decoded(
    dataset: LabelledImages, size: int, interpolation: str, directory: Path
) -> np.ndarray:
    key = _key("images", dataset.fingerprint(), size, interpolation)
    return cached_array(
        directory,
        key,
        (len(dataset), size, size, 3),
        np.uint8,
        lambda array: decode_into(array, dataset, interpolation=interpolation),
    )


def _extracted(
    dataset: LabelledImages, options: BackboneOptions, device: torch.device, directory: Path
) -> np.ndarray:
    backbone = _backbone(options).eval().to(device)
    size, interpolation = backbone.image_size, backbone.interpolation

    @torch.inference_mode()
    def extract(features: np.ndarray) -> None:
        starts = range(0, len(dataset), _CHUNK)
        title = f"features of {printable(dataset.name)}"
        for start in tqdm(starts, title, leave=False, delay=2.0):
            part = features[start : start + _CHUNK]
            images = np.empty((len(part), size, size, 3), np.uint8)
            decode_into(images, dataset, interpolation=interpolation, start=start)
            batch = _as_floats(torch.from_numpy(images).to(device))
            part[:] = backbone(batch).float().cpu().numpy()

    key = _key(
        "features",
        dataset.fingerprint(),
        options.name,
        options.weights_fingerprint,
        *(["small stem"] * options.small_stem),
        size,
        interpolation,
    )
    return cached_array(directory, key, (len(dataset), backbone.width), np.float32, extract)


def _as_floats(images: Tensor) -> Tensor:
    """uint8 images (n, size, size, 3) as float32 (n, 3, size, size) in [0, 1], in channels-last
    memory."""
    return images.permute(0, 3, 1, 2).float().div_(255.0)


def _key(kind: str, *parts: object) -> str:
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
    return f"{kind}-{digest[:32]}"
