from __future__ import annotations

import math

import pytest
from scipy.stats import ks_2samp
import torch
from torch import Tensor
from torch.nn.functional import affine_grid
from torchvision.transforms import RandomResizedCrop

from cbal_optuna.training import Augmentation
from cbal_optuna.training.augmentation import _grid


SIZE = 32
STILL = {"min_area": 1.0, "max_aspect": 1.0, "rotation": 0.0, "flip": False}
N = 4000


def images(n: int = 8) -> Tensor:
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def transforms(augmentation: Augmentation, seed: int = 0) -> dict[str, Tensor]:
    """What was done to each of many images, read off an image whose channels are its x and y."""
    torch.manual_seed(seed)
    axis = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    out = augmentation(torch.stack([x, y, 0 * x]).expand(N, 3, SIZE, SIZE))[:, :2].double()
    low, high = SIZE // 2 - 1, SIZE // 2
    right = (out[:, :, low, high] - out[:, :, low, low]) * SIZE / 2
    down = (out[:, :, high, low] - out[:, :, low, low]) * SIZE / 2
    return {
        "width": right.norm(dim=1),
        "height": down.norm(dim=1),
        "angle": torch.atan2(down[:, 0], down[:, 1]),
        "determinant": right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0],
        "centre": out[:, :, low : high + 1, low : high + 1].mean((2, 3)),
    }


def test_nothing_allowed_is_nothing_done() -> None:
    torch.testing.assert_close(Augmentation(**STILL)(images()), images(), atol=1e-5, rtol=0)


def test_the_whole_image_as_smallest_area_leaves_no_room_for_an_aspect() -> None:
    augmentation = Augmentation(**{**STILL, "max_aspect": 2.0})
    torch.testing.assert_close(augmentation(images()), images(), atol=1e-5, rtol=0)


def test_a_flip_mirrors_half_of_the_images_and_does_nothing_else() -> None:
    torch.manual_seed(0)
    before = images(400)
    after = Augmentation(**{**STILL, "flip": True})(before)
    kept = (after - before).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (after - before.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert (kept ^ mirrored).all()
    assert 160 < mirrored.sum() < 240


@pytest.mark.parametrize("flip", [False, True])
def test_only_a_flip_mirrors(flip: bool) -> None:
    augmentation = Augmentation(min_area=0.3, max_aspect=2.0, rotation=45.0, flip=flip)
    mirrored = (transforms(augmentation)["determinant"] < 0).double().mean()
    assert mirrored == pytest.approx(0.5 if flip else 0.0, abs=0.04)


@pytest.mark.parametrize(
    ("min_area", "max_aspect"), [(0.08, 4 / 3), (0.2, 4 / 3), (0.5, 1.0), (0.6, 2.0), (0.95, 9.0)]
)
def test_crops_are_distributed_as_torchvisions(min_area: float, max_aspect: float) -> None:
    crop = transforms(Augmentation(min_area=min_area, max_aspect=max_aspect, flip=False))
    # So large that whole pixels do not matter.
    size, scale, ratio = 4096, [min_area, 1.0], [1 / max_aspect, max_aspect]
    image = torch.empty(1, size, size)
    drawn = [RandomResizedCrop.get_params(image, scale, ratio) for _ in range(N)]
    y, x, height, width = (torch.tensor(drawn).double() / size).unbind(1)
    pairs = {
        "area": (crop["width"] * crop["height"], width * height),
        "aspect": (crop["width"] / crop["height"], width / height),
        "column": (crop["centre"][:, 0], 2 * x + width - 1),
        "row": (crop["centre"][:, 1], 2 * y + height - 1),
    }
    # Whole images have many equal numbers, which differ by rounding.
    p = {k: ks_2samp(a.numpy().round(3), b.numpy().round(3)).pvalue for k, (a, b) in pairs.items()}
    assert min(p.values()) > 1e-4, p


@pytest.mark.parametrize("max_aspect", [1.0, 1.5])
def test_aspects_reach_their_bound_on_both_sides(max_aspect: float) -> None:
    crop = transforms(Augmentation(min_area=0.1, max_aspect=max_aspect))
    aspect = crop["width"] / crop["height"]
    assert aspect.max() == pytest.approx(max_aspect, rel=0.02)
    assert aspect.min() == pytest.approx(1 / max_aspect, rel=0.02)


def test_crops_are_anywhere_within_the_image() -> None:
    crop = transforms(Augmentation(min_area=0.1, max_aspect=2.0))
    for axis, side in enumerate(("width", "height")):
        room = 1 - crop[side]
        roomy = room > 0.2
        position = (crop["centre"][:, axis] / room)[roomy].sort().values
        uniform = torch.linspace(-1, 1, len(position))
        assert len(position) > 1000
        assert position.abs().max() < 1 + 1e-4
        # Kolmogorov-Smirnov again, over a range of 2.
        assert (position - uniform).abs().max() < 2 * 1.95 / math.sqrt(len(position))


@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_rotations_are_uniform_to_both_sides(rotation: float) -> None:
    angle = transforms(Augmentation(**{**STILL, "rotation": rotation}))["angle"].rad2deg()
    expected = torch.linspace(-rotation, rotation, N)
    torch.testing.assert_close(angle.sort().values.float(), expected, atol=2.0, rtol=0)


def test_a_rotated_crop_keeps_its_shape() -> None:
    """A rectangle stays one: no shear."""
    crop = transforms(Augmentation(min_area=0.1, max_aspect=3.0, rotation=45.0))
    area = crop["width"] * crop["height"]
    torch.testing.assert_close(crop["determinant"].abs(), area, atol=1e-4, rtol=0)
    assert (crop["width"] / crop["height"]).max() <= 3.01


@pytest.mark.parametrize("size", [1, 5, 32])
def test_positions_are_those_of_torchs_affine_grid(size: int) -> None:
    transforms = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = affine_grid(transforms, [7, 3, size, size], align_corners=False)
    torch.testing.assert_close(_grid(transforms, size), expected, atol=1e-5, rtol=1e-5)


def test_each_image_of_a_batch_is_changed_in_its_own_way() -> None:
    torch.manual_seed(0)
    same = images(1).expand(16, -1, -1, -1)
    changed = Augmentation()(same).flatten(1)
    assert len(changed.unique(dim=0)) == 16


def test_the_global_random_state_decides() -> None:
    def augmented(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return Augmentation(rotation=10.0)(images())

    assert torch.equal(augmented(1), augmented(1))
    assert not torch.equal(augmented(1), augmented(2))


def test_values_stay_within_those_of_the_image() -> None:
    torch.manual_seed(0)
    augmented = Augmentation(rotation=90.0)(images(64))
    assert augmented.shape == (64, 3, SIZE, SIZE)
    assert augmented.min() >= 0 and augmented.max() <= 1


@pytest.mark.parametrize(
    "argument",
    [
        {"min_area": 0.0},
        {"min_area": 1.1},
        {"min_area": math.nan},
        {"max_aspect": 0.9},
        {"max_aspect": math.inf},
        {"rotation": -1.0},
        {"rotation": math.nan},
    ],
)
def test_arguments_out_of_range_are_named(argument: dict[str, float]) -> None:
    (name,) = argument
    with pytest.raises(ValueError, match=f"`{name}` is"):
        Augmentation(**argument)
