from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
import timm
from timm.data import resolve_model_data_config
import torch
from torch import nn

from cbal_optuna.export.timm_form import TimmForm
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import MLP
from cbal_optuna.training.backbone import Backbone
from cbal_optuna.training.model import FeatureHead


PLAIN = [
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "test_vit",
    "test_nfnet",
    "resnet18",
    "mobilenetv3_small_050",
    "regnety_002",
    # Its classifier is a convolution.
    "resnetv2_50x1_bit",
    # Its weights come with a classifier that is loaded in another way.
    "vit_tiny_patch16_224.augreg_in21k",
]
# Two classifiers, of which timm takes the mean.
DISTILLED = "deit_tiny_distilled_patch16_224"


def model_of(
    name: str, *, image_size: int | None = None, small_stem: bool = False, head: str = "linear"
) -> EmbeddingModel:
    torch.manual_seed(0)
    backbone = Backbone(BackboneOptions(name, "random", image_size, small_stem))
    model = EmbeddingModel(backbone, 8, head)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model.to(memory_format=torch.channels_last).eval()


def images_for(model: EmbeddingModel) -> tuple[torch.Tensor, torch.Tensor]:
    """In [0, 1], and normalised."""
    size = model.backbone.image_size
    images = torch.rand(3, 3, size, size)
    return images, (images - model.backbone.mean) / model.backbone.std


@pytest.mark.parametrize("name", PLAIN)
@torch.no_grad()
def test_timm_alone_makes_the_embeddings_and_the_features(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    TimmForm.of(model).write(tmp_path, {})
    images, normalised = images_for(model)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(loaded(normalised), model(images), atol=1e-5, rtol=1e-5)
    bare = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    torch.testing.assert_close(bare(normalised), model.backbone(images), atol=1e-5, rtol=1e-5)
    strict = timm.create_model(name, num_classes=8)
    strict.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)


@pytest.mark.parametrize(
    ("name", "head"), [(DISTILLED, "linear"), ("test_resnet", MLP), ("test_vit", MLP)]
)
@torch.no_grad()
def test_a_head_that_is_no_classifier_is_in_a_file_of_its_own(
    name: str, head: str, tmp_path: Path
) -> None:
    model = model_of(name, head=head)
    form = TimmForm.of(model)
    form.write(tmp_path, {})
    assert form.projects == (head == MLP)
    images, normalised = images_for(model)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    features = loaded(normalised)
    torch.testing.assert_close(features, model.backbone(images), atol=1e-5, rtol=1e-5)
    strict = timm.create_model(name, num_classes=0)
    strict.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    model.head.load_state_dict(load_file(tmp_path / "head" / "model.safetensors"), strict=True)


@pytest.mark.parametrize(("name", "size"), [("test_vit", 96), ("test_resnet", 96)])
@torch.no_grad()
def test_the_image_size_and_the_normalisation_are_those_of_the_training(
    name: str, size: int, tmp_path: Path
) -> None:
    model = model_of(name, image_size=size)
    TimmForm.of(model).write(tmp_path, {})
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    data = resolve_model_data_config(loaded)
    assert data["input_size"] == [3, size, size]
    assert data["crop_pct"] == 1.0
    assert data["interpolation"] == model.backbone.interpolation
    torch.testing.assert_close(torch.tensor(data["mean"]), model.backbone.mean.flatten())
    torch.testing.assert_close(torch.tensor(data["std"]), model.backbone.std.flatten())
    images, normalised = images_for(model)
    torch.testing.assert_close(loaded(normalised), model(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "resnet18", "densenet121"])
@torch.no_grad()
def test_timm_does_not_take_a_small_stem_for_the_usual_one(name: str, tmp_path: Path) -> None:
    model = model_of(name, image_size=32, small_stem=True)
    form = TimmForm.of(model)
    form.write(tmp_path, {})
    with pytest.raises(RuntimeError, match=f"{name} with a small stem"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    made = timm.create_model(name, num_classes=8).eval()
    for name, module in form.stem.items():
        made.set_submodule(name, module)
    made.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    images, normalised = images_for(model)
    torch.testing.assert_close(made(normalised), model(images), atol=1e-5, rtol=1e-5)


def test_a_feature_head_is_one_linear_layer() -> None:
    torch.manual_seed(0)
    features = 100.0 + 3.0 * torch.randn(50, 32)
    head = FeatureHead(features, 8).eval()
    torch.testing.assert_close(head.folded()(features), head(features), atol=1e-4, rtol=1e-5)
    assert head.folded().weight.shape == (8, 32)
