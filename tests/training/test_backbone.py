from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import pickle
import shutil
from typing import Any
from zipfile import ZIP_DEFLATED
from zipfile import ZipFile

import numpy as np
import pytest
from safetensors.torch import load_file
from safetensors.torch import save_file
import timm
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.training import backbone as backbone_module
from cbal_optuna.training import BackboneOptions
from cbal_optuna.training.backbone import Backbone


pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

REAL_WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "weights"
Save = Callable[[dict[str, Any], Path], None]


def images(n: int, size: int) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def backbone(
    name: str,
    weights: str | Path = "random",
    image_size: int | None = 32,
    small_stem: bool = False,
) -> Backbone:
    return Backbone(BackboneOptions(name, weights, image_size, small_stem)).eval()


def state(name: str, **arguments: Any) -> dict[str, Tensor]:
    """Random weights of a timm model."""
    torch.manual_seed(1)
    weights: dict[str, Tensor] = timm.create_model(name, **arguments).state_dict()
    return weights


@pytest.mark.parametrize(
    "name",
    [
        *timm.list_models("test_*"),
        "convnext_atto",
        "deit_tiny_distilled_patch16_224",
        "levit_128s",
        "mobilenetv3_small_050",
        "pit_ti_distilled_224",
        "regnetx_002",
        "resnet18",
        "resnet18.tv_in1k",
        "tf_efficientnet_lite0",
        "vit_tiny_patch16_224",
    ],
)
@torch.no_grad()
def test_a_timm_model_becomes_a_backbone(name: str) -> None:
    model = backbone(name)
    assert model.image_size == 32
    assert model(images(2, 32)).shape == (2, model.width)


@pytest.mark.parametrize("name", ["swin_s3_tiny_224", "mixer_s32_224", "nest_tiny", "test_vit"])
@pytest.mark.parametrize("image_size", [32, 64])
@torch.no_grad()
def test_models_made_for_one_size_are_made_for_another(name: str, image_size: int) -> None:
    model = backbone(name, image_size=image_size)
    assert model(images(2, image_size)).shape == (2, model.width)


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 160), ("mobilenetv2_100", 224)])
def test_the_default_size_is_the_models_own(name: str, size: int) -> None:
    assert backbone(name, image_size=None).image_size == size


@torch.no_grad()
def test_images_are_normalised_as_the_weights_expect() -> None:
    model = backbone("resnet18")
    config = timm.get_pretrained_cfg("resnet18")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean, config.std))
    assert len(set(config.mean)) == len(set(config.std)) == 3
    normalised = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(normalised * std + mean), model.model(normalised))


def test_the_interpolation_is_the_models_own() -> None:
    assert backbone("test_resnet").interpolation == "bilinear"
    assert backbone("test_vit").interpolation == "bicubic"


def test_measuring_the_width_leaves_the_model_untouched() -> None:
    model = Backbone(BackboneOptions("test_resnet", "random", 32))
    assert model.training
    for name, buffer in model.model.named_buffers():
        expected = 1.0 if name.endswith("running_var") else 0.0
        assert (buffer == expected).all(), name


def saved_safely(weights: dict[str, Any], path: Path) -> None:
    save_file(weights, path)


def saved(weights: dict[str, Any], path: Path) -> None:
    torch.save(weights, path)


def saved_in_the_old_format(weights: dict[str, Any], path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def saved_as_checkpoint(weights: dict[str, Any], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": weights}, path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("save", "suffix"),
    [
        (saved_safely, ".safetensors"),
        (saved, ".pt"),
        (saved_in_the_old_format, ".pth"),
        (saved_as_checkpoint, ".ckpt"),
    ],
)
@torch.no_grad()
def test_weights_come_from_a_file(
    tmp_path: Path, save: Save, suffix: str, dtype: torch.dtype
) -> None:
    weights = {
        k: v.to(dtype) if v.is_floating_point() else v
        for k, v in state("test_resnet", num_classes=0).items()
    }
    save(weights, tmp_path / f"weights{suffix}")
    model = backbone("test_resnet", tmp_path / f"weights{suffix}")
    expected = timm.create_model("test_resnet", num_classes=0).eval()
    expected.load_state_dict({k: v.float() for k, v in weights.items()})
    inputs = images(2, 32)
    features = model(inputs)
    assert features.dtype == torch.float32
    assert torch.equal(features, expected((inputs - model.mean) / model.std))


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "test_convnext",
        "test_efficientnet",
        "mobilenetv3_small_050",
        "deit_tiny_distilled_patch16_224",
        "levit_128s",
        "repvit_m0_9",
    ],
)
def test_a_file_may_hold_the_classifiers_too(tmp_path: Path, name: str) -> None:
    size = {"img_size": 32} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    weights = state(name, num_classes=7, **size)
    saved(weights, tmp_path / "weights.pt")
    loaded = backbone(name, tmp_path / "weights.pt").model.state_dict()
    assert len(loaded) < len(weights)
    for key, tensor in loaded.items():
        assert torch.equal(tensor, weights[key]), key


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_efficientnet_lite0"])
@torch.no_grad()
def test_real_weights_are_used_as_their_reader_would(name: str) -> None:
    paths = sorted(REAL_WEIGHTS.glob(f"{name}.*.safetensors"))
    if not paths:
        pytest.skip(f"no weights of {name} in {REAL_WEIGHTS}")
    model = backbone(name, paths[0], image_size=64)
    expected = timm.create_model(name, num_classes=0).eval()
    expected.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(paths[0]).items()}
    )
    inputs = images(2, 64)
    assert torch.equal(model(inputs), expected((inputs - model.mean) / model.std))


def without_two(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in weights.items() if k not in ("bn1.bias", "conv1.0.weight")}


def with_one_more(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**weights, "layer9.weight": torch.zeros(1)}


def with_one_misshapen(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**weights, "conv1.0.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_two, "of its 90 tensors it lacks 'bn1.bias' and 1 others"),
        (with_one_more, "it should not have 'layer9.weight'"),
        (with_one_misshapen, "it has in another shape 'conv1.0.weight'"),
        (lambda weights: {}, "it lacks 'bn1.bias' and 89 others"),
        (lambda weights: state("test_vit"), "it lacks 'bn1.bias' and 89 others"),
    ],
)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], reason: str
) -> None:
    path = tmp_path / "weights.pt"
    saved(change(state("test_resnet", num_classes=0)), path)
    with pytest.raises(ValueError, match=f"`weights` file .* does not fit the ResNet: .*{reason}"):
        backbone("test_resnet", path)


def assert_one_sentence(message: str) -> None:
    assert message.startswith("`weights`")
    assert "\n" not in message
    assert ". " not in message


@pytest.mark.parametrize(
    "contents",
    [
        ["a list"],
        {0: torch.zeros(1)},
        {"layer": {"weight": torch.zeros(1)}},
        {"weight": "text"},
        torch.zeros(1),
        nn.Linear(1, 1),
    ],
    ids=["list", "numbered", "nested", "text", "tensor", "module"],
)
def test_files_of_something_else_are_refused(tmp_path: Path, contents: Any) -> None:
    path = tmp_path / "weights.pt"
    torch.save(contents, path)
    with pytest.raises(ValueError, match="weights.pt") as error:
        backbone("test_resnet", path)
    assert_one_sentence(str(error.value))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("contents", [b"", b"\0" * 64, b"weights", b"PK\x03\x04", b"\x80\x04."])
def test_files_that_are_no_weights_are_refused(
    tmp_path: Path, contents: bytes, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="weights") as error:
        backbone("test_resnet", path)
    assert_one_sentence(str(error.value))


@pytest.mark.parametrize(
    ("save", "suffix"),
    [(saved_safely, ".safetensors"), (saved, ".pt"), (saved_in_the_old_format, ".pth")],
)
def test_truncated_and_damaged_weights_are_refused(
    tmp_path: Path, save: Save, suffix: str
) -> None:
    """With two foreign tensors in the file, so that a reader that notices no damage refuses it."""
    path = tmp_path / f"weights{suffix}"
    save({"a": torch.zeros(3, 4), "b": torch.zeros(2)}, path)
    contents = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(contents[: rng.integers(len(contents) + 1)])
        for position in rng.integers(len(contents), size=2):
            if position < len(damaged):
                damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="`weights` file"):
            backbone("test_resnet", path)


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".safetensors"])
@pytest.mark.parametrize("with_torch", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, with_torch: bool, suffix: str
) -> None:
    path, proof = tmp_path / f"weights{suffix}", tmp_path / "code was run"
    weights = {**state("test_resnet", num_classes=0), "code": Code(proof)}
    if with_torch:
        torch.save(weights, path)
    else:
        path.write_bytes(pickle.dumps(weights))
    with pytest.raises(ValueError, match="nothing but tensors") as error:
        backbone("test_resnet", path)
    assert not proof.exists()
    assert_one_sentence(str(error.value))
    assert "weights_only" not in str(error.value)  # no hint at how to run it all the same


@pytest.mark.parametrize(
    "odd",
    [
        lambda tensor: torch.empty_like(tensor, device="meta"),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor / 0,
    ],
    ids=["meta", "sparse", "quantised", "complex", "infinite"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_without_finite_real_numbers_are_refused(
    tmp_path: Path, odd: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    weights = state("test_resnet", num_classes=0)
    name = next(iter(weights))
    torch.save({**weights, name: odd(weights[name])}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=f"finite real numbers in {name!r}") as error:
        backbone("test_resnet", tmp_path / "weights.pt")
    assert_one_sentence(str(error.value))


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    saved(state("test_resnet", num_classes=0), tmp_path / "weights.pt")
    with ZipFile(tmp_path / "weights.pt") as old:
        with ZipFile(tmp_path / "compressed.pt", "w", ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="compressed.pt should be a safetensors file"):
        backbone("test_resnet", tmp_path / "compressed.pt")


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt", "."])
def test_missing_files_and_folders_are_refused(tmp_path: Path, name: str) -> None:
    for act in (
        lambda: backbone("test_resnet", tmp_path / name),
        lambda: BackboneOptions("test_resnet", tmp_path / name).weights_fingerprint,
    ):
        with pytest.raises(ValueError, match="which is no file") as error:
            act()
        assert_one_sentence(str(error.value))


def test_pretrained_weights_that_cannot_be_had_say_what_else_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_model = timm.create_model

    def offline(name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
        if pretrained:
            raise OSError("no connection\nto the hub")
        model: nn.Module = create_model(name, **arguments)
        return model

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match="'pretrained'.*no connection.*'random'") as error:
        backbone("test_resnet", "pretrained")
    assert "\n" not in str(error.value)


def test_pretrained_weights_are_asked_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    create_model = timm.create_model
    asked: list[tuple[str, bool]] = []

    def spied(name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
        asked.append((name, pretrained))
        model: nn.Module = create_model(name, **arguments)
        return model

    monkeypatch.setattr(timm, "create_model", spied)
    backbone("resnet18.tv_in1k", "pretrained")
    assert ("resnet18.tv_in1k", True) in asked


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet5O", "did you mean .*resnet50"),
        ("vit_tiny_patch16", "did you mean .*vit_tiny_patch16_224"),
        ("!", "timm.list_models"),
        ("", "timm.list_models"),
        ("resnet18.nope", "no weights 'nope' of resnet18; it has .*resnet18.tv_in1k"),
        ("coatnet_0_224.nope", "it has none"),
    ],
)
@pytest.mark.parametrize("weights", ["random", "pretrained"])
def test_unknown_names_are_refused_with_a_hint(name: str, hint: str, weights: str) -> None:
    with pytest.raises(ValueError, match=f"`backbone` is '{name}'.*{hint}"):
        backbone(name, weights)


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("nest_tiny", 33),
        ("test_maxvit", 3),
        ("test_vit_relpos", 1),
        ("twins_pcpvt_small", 30),
        ("xcit_nano_12_p16_224", 40),
        ("halonet26t", 64),
    ],
)
@pytest.mark.parametrize("weights", ["random", "pretrained"])
def test_sizes_that_a_model_cannot_take_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, image_size: int, weights: str
) -> None:
    create_model = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained=False, **rest: create_model(name, **rest)
    )
    expected = f"`image_size` is {image_size}, which the backbone '{name}' cannot take: ."
    with pytest.raises(ValueError, match=expected) as error:
        backbone(name, weights, image_size)
    assert "\n" not in str(error.value)


def test_features_that_are_not_pooled_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        backbone_module,
        "_create",
        lambda options: timm.create_model("test_resnet", num_classes=0, global_pool=""),
    )
    with pytest.raises(ValueError, match=r"`backbone` is 'test_resnet'.*\(96, 1, 1\).*pooled"):
        backbone("test_resnet")


def test_a_fingerprint_tells_weights_apart(tmp_path: Path) -> None:
    saved_safely({"a": torch.zeros(2)}, tmp_path / "zeros.safetensors")
    saved_safely({"a": torch.ones(2)}, tmp_path / "ones.safetensors")
    shutil.copy(tmp_path / "ones.safetensors", tmp_path / "copy.safetensors")
    zeros, ones, copy = (
        BackboneOptions("test_resnet", tmp_path / f"{name}.safetensors").weights_fingerprint
        for name in ("zeros", "ones", "copy")
    )
    others = {
        BackboneOptions(name, weights).weights_fingerprint
        for name, weights in (
            ("resnet18.tv_in1k", "pretrained"),
            ("resnet18.a1_in1k", "pretrained"),
            ("resnet18", "random"),
        )
    }
    assert ones == copy
    assert len({zeros, ones} | others) == 5


def test_a_name_without_a_tag_has_the_fingerprint_of_timms_choice() -> None:
    chosen = timm.get_pretrained_cfg("resnet18").tag
    with_tag = BackboneOptions(f"resnet18.{chosen}").weights_fingerprint
    assert BackboneOptions("resnet18").weights_fingerprint == with_tag


@pytest.mark.parametrize(
    ("name", "downsampling"),
    [
        ("resnet18", 8),
        ("test_resnet", 8),
        ("test_efficientnet", 16),
        ("tf_efficientnet_lite0", 16),
        ("densenet121", 8),
    ],
)
def test_a_small_stem_keeps_the_resolution(name: str, downsampling: int) -> None:
    small = backbone(name, image_size=64, small_stem=True)
    maps = small.model.forward_features(images(1, 64))
    assert maps.shape[2:] == (64 // downsampling, 64 // downsampling)
    assert small(images(1, 64)).shape == (1, small.width)


def test_a_small_stem_takes_the_weights_of_such_a_model(tmp_path: Path) -> None:
    path = tmp_path / "small.pt"
    torch.save(backbone("test_resnet", small_stem=True).model.state_dict(), path)
    loaded = backbone("test_resnet", weights=path, small_stem=True)
    expected = torch.load(path, weights_only=True)
    assert all(torch.equal(v, expected[k]) for k, v in loaded.model.state_dict().items())


def test_a_small_stem_does_not_take_the_weights_of_another(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pt"
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), path)
    with pytest.raises(ValueError, match="has in another shape 'conv1.weight'"):
        backbone("resnet18", weights=path, small_stem=True)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "dla34"])
def test_a_backbone_without_a_stem_to_be_made_small_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`small_stem` is True, .* backbone '{name}' has not"):
        backbone(name, small_stem=True)


def test_a_small_stem_is_not_pretrained() -> None:
    with pytest.raises(ValueError, match="`weights` is 'pretrained', but a small stem has no"):
        BackboneOptions("resnet18", small_stem=True)
