from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.data import decode_into
from cbal_optuna.data import LabelledImages
from cbal_optuna.training import Augmentation
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import HeadOnly
from cbal_optuna.training import Regime
from cbal_optuna.training import regimes
from cbal_optuna.training.backbone import Backbone
from cbal_optuna.training.model import EmbeddingModel


CPU = torch.device("cpu")
RANDOM = BackboneOptions("test_resnet", "random", 32)
ITEMS = np.array([5, 0, 77, 5])
ALL = np.arange(120)


def head_only(
    dataset: LabelledImages, directory: Path, options: BackboneOptions = RANDOM
) -> HeadOnly:
    return HeadOnly(dataset, options, embedding_dim=8, device=CPU, cache_directory=directory)


def end_to_end(
    dataset: LabelledImages,
    directory: Path | None,
    options: BackboneOptions = RANDOM,
    device: torch.device = CPU,
) -> EndToEnd:
    return EndToEnd(
        dataset,
        options,
        embedding_dim=8,
        augmentation=Augmentation(),
        device=device,
        cache_directory=directory,
    )


REGIMES = [head_only, end_to_end]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "test_resnet.pt"
    torch.manual_seed(7)
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


def decoded(dataset: LabelledImages, size: int = 32) -> np.ndarray:
    images = np.empty((len(dataset), size, size, 3), np.uint8)
    decode_into(images, dataset)
    return images


def parameters(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


@torch.no_grad()
def test_head_only_trains_on_the_features_of_the_backbone(
    colours: LabelledImages, tmp_path: Path, weights: Path
) -> None:
    options = BackboneOptions("test_resnet", weights, 32)
    regime = head_only(colours, tmp_path, options)
    images = torch.from_numpy(decoded(colours)).permute(0, 3, 1, 2) / 255
    features = Backbone(options).eval()(images)
    torch.testing.assert_close(regime.inputs(ALL), features)
    assert torch.equal(regime.training_inputs(ITEMS), regime.inputs(ITEMS))


@pytest.mark.parametrize("make", REGIMES)
def test_images_are_decoded_once(
    colours: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., Regime],
) -> None:
    first = make(colours, tmp_path).inputs(ALL)

    def again(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(regimes, "decode_into", again)
    assert torch.equal(make(colours, tmp_path).inputs(ALL), first)


class Others(LabelledImages):
    """A data set of the same labels and other images."""

    def __init__(self, dataset: LabelledImages) -> None:
        super().__init__(dataset.name, dataset.labels, dataset.class_names)
        self._dataset = dataset

    def image(self, index: int) -> Any:
        return self._dataset.image(len(self) - 1 - index)

    def fingerprint(self) -> str:
        return self._dataset.fingerprint() + "-reversed"


def test_features_are_kept_by_data_set_backbone_weights_and_transform(
    colours: LabelledImages, tmp_path: Path, weights: Path
) -> None:
    other_weights = tmp_path / "other.pt"
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), other_weights)
    cache = tmp_path / "cache"
    for n_files, (dataset, options) in enumerate(
        [
            (colours, RANDOM),
            (Others(colours), RANDOM),
            (colours, BackboneOptions("test_convnext", "random", 32)),
            (colours, BackboneOptions("test_resnet", weights, 32)),
            (colours, BackboneOptions("test_resnet", other_weights, 32)),
            (colours, BackboneOptions("test_resnet", "random", 16)),
        ],
        start=1,
    ):
        for _ in range(2):
            head_only(dataset, cache, options)
            assert len(list(cache.iterdir())) == n_files


def test_images_decoded_each_time_are_those_of_the_cache(
    colours: LabelledImages, tmp_path: Path
) -> None:
    cached = end_to_end(colours, tmp_path / "cache", RANDOM)
    decoded_each_time = end_to_end(colours, None, RANDOM)
    for inputs in ("inputs", "training_inputs"):
        torch.manual_seed(0)
        expected = getattr(cached, inputs)(ITEMS)
        torch.manual_seed(0)
        assert torch.equal(getattr(decoded_each_time, inputs)(ITEMS), expected)


def test_images_are_decoded_ahead_for_a_device_that_trains_meanwhile(
    colours: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, image = Event(), colours.image
    monkeypatch.setattr(colours, "image", lambda index: (decoding.set(), image(index))[1])
    on_cpu, elsewhere = (
        end_to_end(colours, None, device=torch.device(name)) for name in ("cpu", "meta")
    )
    assert len(list(on_cpu.ahead([ITEMS, ALL]))) == 2
    assert not decoding.is_set()
    next(iter(elsewhere.ahead([ITEMS, ALL])))
    assert decoding.wait(60.0)


def test_images_are_kept_by_data_set_and_transform_alone(
    colours: LabelledImages, tmp_path: Path, weights: Path
) -> None:
    end_to_end(colours, tmp_path, RANDOM)
    end_to_end(colours, tmp_path, BackboneOptions("test_resnet", weights, 32))
    assert len(list(tmp_path.iterdir())) == 1
    end_to_end(colours, tmp_path, BackboneOptions("test_resnet", "random", 16))
    end_to_end(colours, tmp_path, BackboneOptions("test_vit", "random", 32))  # bicubic
    end_to_end(Others(colours), tmp_path, RANDOM)
    assert len(list(tmp_path.iterdir())) == 4


def test_weights_changed_under_the_same_name_are_noticed(
    colours: LabelledImages, tmp_path: Path
) -> None:
    options = BackboneOptions("test_resnet", tmp_path / "weights.pt", 32)
    features = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), options.weights)
        features.append(head_only(colours, tmp_path / "cache", options).inputs(ALL))
    assert not torch.equal(*features)


@pytest.mark.parametrize("make", REGIMES)
@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_a_damaged_cache_is_made_anew(
    colours: LabelledImages, tmp_path: Path, make: Callable[..., Regime], damage: bytes
) -> None:
    before = make(colours, tmp_path).inputs(ALL)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert torch.equal(make(colours, tmp_path).inputs(ALL), before)


def test_frozen_random_weights_are_the_same_every_time(
    colours: LabelledImages, tmp_path: Path
) -> None:
    features = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        features.append(head_only(colours, tmp_path / str(seed)).inputs(ALL))
    assert torch.equal(*features)


@pytest.mark.parametrize("make", REGIMES)
def test_making_a_regime_leaves_the_random_state_as_it_was(
    colours: LabelledImages, tmp_path: Path, make: Callable[..., Regime]
) -> None:
    for _ in range(2):  # without and with a cache
        torch.manual_seed(3)
        state = torch.get_rng_state()
        make(colours, tmp_path)
        assert torch.equal(torch.get_rng_state(), state)


def test_end_to_end_sees_the_decoded_images(colours: LabelledImages, tmp_path: Path) -> None:
    inputs = end_to_end(colours, tmp_path).inputs(ITEMS)
    expected = torch.from_numpy(decoded(colours)[ITEMS]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(inputs, expected)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_end_to_end_augments_images_in_training_only(
    colours: LabelledImages, tmp_path: Path
) -> None:
    regime = end_to_end(colours, tmp_path)
    torch.manual_seed(0)
    augmented = regime.training_inputs(ITEMS)
    torch.manual_seed(0)
    assert torch.equal(augmented, Augmentation()(regime.inputs(ITEMS)))
    assert not torch.equal(augmented[0], augmented[3])
    assert torch.equal(regime.inputs(ITEMS)[0], regime.inputs(ITEMS)[3])


@pytest.mark.parametrize("n_at_once", [1, 3, 100])
def test_images_augmented_a_few_at_a_time_are_those_of_the_batch(
    colours: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_at_once: int
) -> None:
    monkeypatch.setattr(regimes, "_AUGMENTED_BYTES", n_at_once * 3 * 32 * 32 * 4)
    regime = end_to_end(colours, tmp_path)
    sizes: list[int] = []

    def seen(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return 1.0 - images

    monkeypatch.setattr(regime, "_augmentation", seen)
    items = np.arange(10, 20)
    batch = regime.training_inputs(items)
    assert torch.equal(batch, 1.0 - regime.inputs(items))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert max(sizes) == min(n_at_once, 10)


@pytest.mark.parametrize("make", REGIMES)
def test_models_are_drawn_from_the_random_state(
    colours: LabelledImages, tmp_path: Path, make: Callable[..., Regime]
) -> None:
    regime = make(colours, tmp_path)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return parameters(regime.model(ALL))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_every_model_starts_from_the_weights_of_the_file(
    colours: LabelledImages, tmp_path: Path, weights: Path
) -> None:
    options = BackboneOptions("test_resnet", weights, 32)
    regime = end_to_end(colours, tmp_path, options)
    expected = parameters(Backbone(options))
    for _ in range(2):
        model = regime.model(ALL)
        assert isinstance(model, EmbeddingModel)
        assert torch.equal(parameters(model.backbone), expected)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()


def test_pretrained_weights_are_had_once(
    colours: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_model = timm.create_model
    asked: list[bool] = []

    def counted(name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
        asked.append(pretrained)
        model: nn.Module = create_model(name, **arguments)
        return model

    monkeypatch.setattr(timm, "create_model", counted)
    regime = end_to_end(colours, tmp_path, BackboneOptions("test_resnet", "pretrained", 32))
    for _ in range(3):
        regime.model(ALL)
    assert asked.count(True) == 1


def test_the_head_is_fitted_to_the_training_features_alone(
    colours: LabelledImages, tmp_path: Path
) -> None:
    regime = head_only(colours, tmp_path)
    model = regime.model(np.arange(40))
    torch.testing.assert_close(model.mean, regime.inputs(np.arange(40)).mean(0))
    assert not torch.allclose(model.mean, regime.inputs(ALL).mean(0))


@pytest.mark.parametrize("make", REGIMES)
def test_embeddings_are_those_of_the_model_in_evaluation_mode(
    colours: LabelledImages, tmp_path: Path, make: Callable[..., Regime]
) -> None:
    regime = make(colours, tmp_path)
    model = regime.model(ALL)
    items = np.tile(ALL, 5)  # more than one chunk
    embeddings = regime.embed(model, items)
    assert model.training
    assert not embeddings.requires_grad
    assert embeddings.dtype == torch.float32
    with torch.no_grad():
        expected = model.eval()(regime.inputs(ALL)).repeat(5, 1)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-4)
    regime.embed(model, ITEMS)
    assert not model.training


def test_an_embedding_does_not_depend_on_its_companions(
    colours: LabelledImages, tmp_path: Path
) -> None:
    regime = end_to_end(colours, tmp_path)
    model = regime.model(ALL)
    one = regime.embed(model, ALL[7:8])
    torch.testing.assert_close(regime.embed(model, ALL)[7:8], one, atol=1e-5, rtol=1e-4)
