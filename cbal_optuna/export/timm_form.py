"""A model in the form in which timm saves and loads its own: weights and a configuration.

A linear head becomes the classifier of the timm model, if that has a plain one: the model alone
then makes embeddings. Any other head goes into a file of its own, and the model makes features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
import timm
from timm.data.config import resolve_model_data_config
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import small_stem


WEIGHTS = "model.safetensors"
# In a folder of its own, as timm up to 1.0.28 takes the first file that it finds.
HEAD = "head/model.safetensors"
CONFIG = "config.json"
#: The part of the configuration that timm does not read.
OWN = "cbal_optuna"

# What timm has to know about the model beside its data.
_KEPT = ("min_input_size", "fixed_input_size", "first_conv", "classifier")


@dataclass(frozen=True)
class TimmForm:
    """A model as timm has it.

    Attributes:
        architecture:
            Its name among timm's.
        model:
            The timm model, from normalised images to embeddings or features.
        head:
            From its features to embeddings; :obj:`None` if the model does that itself.
        stem:
            What has taken the place of modules that timm makes, by their names.
        embedding_dim:
            Width of the embeddings.
        image_size:
            Side of the images, in pixels.
        data:
            How they are normalised and resized, as timm names it.
    """

    architecture: str
    model: nn.Module
    head: nn.Module | None
    stem: Mapping[str, nn.Module]
    embedding_dim: int
    image_size: int
    data: Mapping[str, Any]

    @property
    def projects(self) -> bool:
        """Whether the head is a projection head, whose inputs serve better than its outputs."""
        return isinstance(self.head, nn.Sequential)

    @classmethod
    def of(cls, model: EmbeddingModel) -> TimmForm:
        """Of a model on the CPU, in evaluation mode."""
        backbone = model.backbone
        cfg: Any = backbone.model.pretrained_cfg
        architecture: str = cfg["architecture"]
        data = _data_config(backbone.model, backbone.image_size)
        plain = _plain(architecture, data, model.embedding_dim)
        stem = small_stem(plain, architecture) if backbone.options.small_stem else {}
        for name, module in stem.items():
            plain.set_submodule(name, module)
        embeds = _take_over(plain, model)
        return cls(
            architecture=architecture,
            model=plain if embeds else backbone.model,
            head=None if embeds else model.head,
            stem=stem,
            embedding_dim=model.embedding_dim,
            image_size=backbone.image_size,
            data=data,
        )

    def config(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What ``timm.create_model("local-dir:...")`` reads, and what is kept beside it."""
        num_classes = self.embedding_dim if self.head is None else 0
        # The weights of a small stem may well fit the usual one, which makes nonsense of them. So
        # timm is given a name that it refuses.
        stem = " with a small stem" if self.stem else ""
        return {
            "architecture": f"{self.architecture}{stem}",
            "num_classes": num_classes,
            "num_features": self.model.num_features,
            "pretrained_cfg": {**self.data, "num_classes": num_classes},
            OWN: {"embedding_dim": self.embedding_dim, **own},
        }

    def write(self, folder: Path, own: Mapping[str, Any]) -> None:
        """Weights and configuration.

        Raises:
            OSError: They cannot be written.
        """
        (folder / CONFIG).write_text(json.dumps(self.config(own), indent=2) + "\n")
        (folder / WEIGHTS).write_bytes(_bytes(self.model))
        if self.head is not None:
            (folder / HEAD).parent.mkdir()
            (folder / HEAD).write_bytes(_bytes(self.head))


def _data_config(model: nn.Module, image_size: int) -> dict[str, Any]:
    cfg: Any = model.pretrained_cfg
    data = resolve_model_data_config(model)
    return {
        "input_size": [3, image_size, image_size],
        # The central square, which is resized: nothing of it is cut off.
        "crop_pct": 1.0,
        "crop_mode": "center",
        **{name: data[name] for name in ("interpolation", "mean", "std")},
        **{name: cfg[name] for name in _KEPT if cfg.get(name) is not None},
    }


def _plain(architecture: str, data: Mapping[str, Any], num_classes: int) -> nn.Module:
    """What timm makes of such a configuration, with random weights."""
    plain: nn.Module = timm.create_model(
        architecture, pretrained_cfg={**data, "num_classes": num_classes}
    )
    return plain.eval()


def _take_over(plain: nn.Module, model: EmbeddingModel) -> bool:
    """Give a plain model the weights of the other, the head as its classifier; whether it then
    makes the same embeddings."""
    get_classifier: Any = plain.get_classifier
    classifier, head = get_classifier(), model.head
    if not isinstance(head, nn.Linear) or not isinstance(classifier, (nn.Linear, nn.Conv2d)):
        return False
    if classifier.weight.numel() != head.weight.numel() or classifier.bias is None:
        return False
    backbone = model.backbone.model.state_dict()
    if len(plain.state_dict()) != len(backbone) + 2:
        return False
    plain.load_state_dict(backbone, strict=False)
    with torch.no_grad():
        classifier.weight.copy_(head.weight.view_as(classifier.weight))
        classifier.bias.copy_(head.bias)
    return _same_embeddings(plain, model)


@torch.no_grad()
def _same_embeddings(plain: nn.Module, model: EmbeddingModel) -> bool:
    backbone = model.backbone
    size = backbone.image_size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    wanted = model(images)
    got: Tensor = plain((images - backbone.mean) / backbone.std)
    return got.shape == wanted.shape and bool((got - wanted).norm() <= 1e-4 * wanted.norm())


def _bytes(module: nn.Module) -> bytes:
    """In safetensors: contiguous, and none shared."""
    tensors = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    return save(tensors, metadata={"format": "pt"})
