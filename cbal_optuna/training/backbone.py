"""timm backbones and their weights."""

from __future__ import annotations

from dataclasses import dataclass
import difflib
import hashlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zipfile import is_zipfile
from zipfile import ZIP_STORED
from zipfile import ZipFile

from safetensors.torch import load_file
import timm
from timm.data.config import resolve_model_data_config
from timm.models import PretrainedCfg
import torch
from torch import nn
from torch import Tensor


PRETRAINED = "pretrained"
RANDOM = "random"

_BLOCK = 2**20  # bytes

# In timm's ResNets and their kin, and in its DenseNets; others have none behind their first
# convolution.
_STEM_POOLING = {"maxpool", "features.pool0"}


@dataclass(frozen=True)
class BackboneOptions:
    """What a backbone is made of.

    Args:
        name:
            Any name that timm knows.
        weights:
            ``"pretrained"`` (timm's, downloaded), ``"random"``, or the path of a safetensors file
            or of a checkpoint that holds nothing but tensors.
        image_size:
            Side of the square images, in pixels; :obj:`None` for the size the model was made for.
        small_stem:
            Whether the first convolution becomes one of 3 x 3 pixels and stride 1 and the pooling
            behind it is left out, so that images of 32 to 64 pixels keep their detail. Its weights
            are random, or those of a file of such a model.

    Raises:
        ValueError: A small stem is to have timm's pretrained weights, which are of another one.
    """

    name: str
    weights: str | Path = PRETRAINED
    image_size: int | None = None
    small_stem: bool = False

    def __post_init__(self) -> None:
        if self.small_stem and self.weights == PRETRAINED:
            raise ValueError(
                "`weights` is 'pretrained', but a small stem has no pretrained weights; it should "
                "be 'random' or the path of a file with weights of such a model."
            )

    @property
    def weights_fingerprint(self) -> str:
        """Tells weights apart: a digest of the file, timm's tag of pretrained ones, or "random".

        Raises:
            ValueError: timm does not know the name, or there is no such file.
        """
        if self.weights == RANDOM:
            return RANDOM
        if self.weights == PRETRAINED:
            # timm's choice for a name without a tag changes between its releases.
            return f"{PRETRAINED}:{_config(self.name).tag}"
        digest = hashlib.sha256()
        with _existing(self.weights).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()


class Backbone(nn.Module):
    """A timm model without its classifier: images of shape (n, 3, size, size) in [0, 1] to
    features (n, width).

    The images are normalised here, with the mean and standard deviation that the model's weights
    were made with.

    Args:
        options:
            Which model, which weights, which image size.

    Raises:
        ValueError: timm does not know the name, the weights cannot be had or do not fit, or the
            model cannot take images of this size.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, options: BackboneOptions) -> None:
        super().__init__()
        self.options = options
        self.model = _create(options)
        config = resolve_model_data_config(self.model)
        self.image_size = options.image_size or config["input_size"][-1]
        self.interpolation: str = config["interpolation"]
        self.register_buffer("mean", torch.tensor(config["mean"]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(config["std"]).view(3, 1, 1))
        self.width = self._measured_width(options)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model((images - self.mean) / self.std)
        return features

    @torch.no_grad()
    def _measured_width(self, options: BackboneOptions) -> int:
        training = self.training
        try:
            features = self.eval()(torch.zeros(1, 3, self.image_size, self.image_size))
        # Models refuse a size with errors of many kinds, ZeroDivisionError among them.
        except Exception as error:
            raise _size_error(options.name, self.image_size, error) from error
        self.train(training)
        if features.ndim != 2:
            raise ValueError(
                f"`backbone` is {options.name!r}, whose features have the shape "
                f"{tuple(features.shape[1:])}; it should be one with pooled features."
            )
        return int(features.shape[1])


def _create(options: BackboneOptions) -> nn.Module:
    """The timm model with its weights."""
    arguments: dict[str, Any] = {"num_classes": 0}
    if _config(options.name).fixed_input_size and options.image_size is not None:
        arguments["img_size"] = options.image_size
    try:
        model: nn.Module = timm.create_model(options.name, **arguments)
    except Exception as error:
        if options.image_size is None:
            raise
        raise _size_error(options.name, options.image_size, error) from error
    if options.small_stem:
        for name, module in small_stem(model, options.name).items():
            model.set_submodule(name, module)
    if options.weights == PRETRAINED:
        return _pretrained(options.name, arguments)
    if options.weights != RANDOM:
        _load_weights(model, _existing(options.weights))
    return model


def small_stem(model: nn.Module, name: str) -> dict[str, nn.Module]:
    """What takes the place of a timm model's modules, by their names, where its stem is to be
    small.

    Raises:
        ValueError: The first convolution of the model of this name has not stride 2.
    """
    first = getattr(model, "pretrained_cfg", {}).get("first_conv")
    old = model.get_submodule(first) if isinstance(first, str) else None
    if first is None or not isinstance(old, nn.Conv2d) or old.stride != (2, 2):
        raise ValueError(
            f"`small_stem` is True, but the first convolution of the backbone {name!r} has not "
            "stride 2; it should be one that has, such as a ResNet, or `small_stem` be False."
        )
    bias = old.bias is not None
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=bias)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    pooling = _STEM_POOLING & {name for name, _ in model.named_modules()}
    return {first: new, **{name: nn.Identity() for name in pooling}}


def _pretrained(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, **arguments)
    # Hub clients raise errors of many kinds: no such weights, no connection, no space left.
    except Exception as error:
        raise ValueError(
            f"`weights` is 'pretrained', but those of {name!r} could not be had "
            f"({_first_line(error)}); it may also be the path of a weights file, or 'random'."
        ) from error
    return model


def _config(name: str) -> PretrainedCfg:
    """What timm knows about a model and its pretrained weights."""
    if not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them."
        raise ValueError(
            f"`backbone` is {name!r}, which is none of timm's {len(known)} models; {hint}"
        )
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        model, tag = name.split(".", 1)
        raise ValueError(
            f"`backbone` is {name!r}, but timm has no weights {tag!r} of {model}; it has "
            f"{', '.join(timm.list_pretrained(f'{model}.*')) or 'none'}."
        ) from error
    assert config is not None  # every model of timm has one
    return config


def _existing(weights: str | Path) -> Path:
    path = Path(weights)
    if not path.is_file():
        raise ValueError(
            f"`weights` is {str(path)!r}, which is no file; it should be one, or 'pretrained' or "
            "'random'."
        )
    return path


def _load_weights(model: nn.Module, path: Path) -> None:
    """Load a weights file, which may also hold the classifier that the backbone does without."""
    weights = _read_weights(path)
    classifiers = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    if isinstance(classifiers, str):
        classifiers = (classifiers,)
    # Some are linear layers with a normalisation beside them, under one roof.
    prefixes = tuple(f"{name.rpartition('.')[0] or name}." for name in classifiers)
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    surplus = sorted(k for k in weights.keys() - own.keys() if not k.startswith(prefixes))
    both = sorted(own.keys() & weights.keys())
    misfit = [k for k in both if own[k].shape != weights[k].shape]
    odd = [k for k in both if k not in misfit and not _is_plain(weights[k])]
    for keys, what in (
        (missing, "lacks"),
        (surplus, "should not have"),
        (misfit, "has in another shape"),
        (odd, "has something else than finite real numbers in"),
    ):
        if keys:
            others = f" and {len(keys) - 1} others" if len(keys) > 1 else ""
            raise ValueError(
                f"`weights` file {path} does not fit the {type(model).__name__}: of its "
                f"{len(own)} tensors it {what} {keys[0]!r}{others}."
            )
    model.load_state_dict({k: weights[k].to(own[k].dtype) for k in own})


def _is_plain(tensor: Tensor) -> bool:
    """Whether all its numbers are there, real and finite; others load with an error, or as what
    makes every training diverge."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        return False
    return not tensor.is_complex() and bool(torch.isfinite(tensor.float()).all())


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if is_zipfile(path):
            with ZipFile(path) as file:
                # torch compresses nothing; what is compressed may be of any size.
                if any(member.compress_type != ZIP_STORED for member in file.infolist()):
                    raise BadZipFile
        weights = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files raise errors of many kinds. What torch says of pickles with code is how to run
    # it all the same, so its words are not passed on.
    except Exception as error:
        raise ValueError(
            f"`weights` file {path} should be a safetensors file (*.safetensors) or a checkpoint "
            "of nothing but tensors; it is damaged or something else."
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in weights.items()
    ):
        raise ValueError(f"`weights` file {path} holds something else than named tensors.")
    return weights


def _size_error(name: str, image_size: int, error: Exception) -> ValueError:
    return ValueError(
        f"`image_size` is {image_size}, which the backbone {name!r} cannot take: "
        f"{_first_line(error)}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
