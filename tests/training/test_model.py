from __future__ import annotations

import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.training import BackboneOptions
from cbal_optuna.training.backbone import Backbone
from cbal_optuna.training.model import EmbeddingModel
from cbal_optuna.training.model import FeatureHead


def images(n: int, size: int) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def backbone() -> Backbone:
    return Backbone(BackboneOptions("test_resnet", "random", 32)).eval()


def test_the_embedding_model_trains_backbone_and_head() -> None:
    model = EmbeddingModel(backbone(), 6)
    embeddings = model(images(2, 32))
    assert embeddings.shape == (2, 6)
    embeddings.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_mlp_head_has_a_hidden_layer_as_wide_as_the_features() -> None:
    model = EmbeddingModel(backbone(), 6, "mlp")
    assert model(images(2, 32)).shape == (2, 6)
    assert [type(layer) for layer in model.head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert model.head[0].out_features == model.backbone.width


def features(n: int = 50, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.arange(1.0, width + 1)
    return torch.randn(n, width, generator=generator) * spread + 10 * spread


@torch.no_grad()
def test_the_head_centres_features_and_scales_them_as_one() -> None:
    training = features()
    model = FeatureHead(training, 7).eval()
    model.head = nn.Identity()
    scaled = model(training)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    assert scaled.std(0).mean().item() == pytest.approx(1.0)
    ratio = scaled.std(0) / training.std(0)
    torch.testing.assert_close(ratio, ratio[:1].expand(7))


@torch.no_grad()
def test_a_feature_that_is_constant_in_training_outweighs_no_other() -> None:
    training = features()
    training[:, 0] = 5.0
    model = FeatureHead(training, 4).eval()
    other = training[:1].clone()
    other[0, 0] += 0.1
    assert (model(other) - model(training[:1])).norm() < 0.1


@torch.no_grad()
def test_features_without_any_variance_are_no_division_by_zero() -> None:
    assert FeatureHead(torch.ones(5, 3), 2).eval()(torch.ones(1, 3)).isfinite().all()


@torch.no_grad()
def test_features_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    training = features(1000)
    model = FeatureHead(training, 7, dropout=0.3)
    model.head = nn.Identity()
    dropped = (model(training) == 0).double().mean()
    assert dropped == pytest.approx(0.3, abs=0.03)
    assert (model.eval()(training) != 0).all()
    assert torch.equal(model(training), model(training))


def test_only_the_head_is_trained() -> None:
    names = {name for name, _ in FeatureHead(features(), 4).named_parameters()}
    assert names == {"head.weight", "head.bias"}
