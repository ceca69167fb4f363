from __future__ import annotations

from collections.abc import Callable
import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import ColorJitter
from torchvision.transforms import GaussianBlur
from torchvision.transforms import RandomGrayscale
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import adjust_hue
from torchvision.transforms.functional import gaussian_blur

from cbal_optuna.training import Augmentation
from cbal_optuna.training import ViewAugmentation
from cbal_optuna.training import views


N = 1500
STILL = Augmentation(min_area=1.0, max_aspect=1.0, flip=False)


def images(n: int = 8, size: int = 16, seed: int = 0) -> Tensor:
    """Smooth ones: noise of a quarter of the size, enlarged, with a colour cast each."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, size // 4, size // 4, generator=generator)
    cast = torch.rand(n, 3, 1, 1, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return 0.5 * smooth + 0.5 * cast


def view(images: Tensor, seed: int = 0, **options: object) -> Tensor:
    torch.manual_seed(seed)
    nothing = {"crop": STILL, "colour": 0.0, "jittered": 0.0, "grey": 0.0, "blurred": 0.0}
    return ViewAugmentation(**{**nothing, **options})(images)  # type: ignore[arg-type]


def one_by_one(images: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    torch.manual_seed(1)
    return torch.stack([transform(image) for image in images])


def statistics(images: Tensor) -> Tensor:
    """Of each image: mean and standard deviation of each channel, and the mean saturation."""
    saturation = (images.amax(1) - images.amin(1)).mean((1, 2))
    parts = [images.mean((2, 3)), images.std((2, 3)), saturation[:, None]]
    return torch.cat(parts, dim=1)


def assert_equal_in_distribution(ours: Tensor, theirs: Tensor) -> None:
    """By the Kolmogorov-Smirnov distance of each statistic, which two samples of one distribution
    exceed once in a thousand times, for each of seven."""
    limit = 1.95 * math.sqrt(2 / N)
    for a, b in zip(statistics(ours).T, statistics(theirs).T):
        values = torch.cat([a, b]).sort().values.contiguous()
        first, second = (torch.searchsorted(x.sort().values, values, right=True) for x in (a, b))
        assert (first - second).abs().max() / N < limit


def test_nothing_allowed_is_nothing_done() -> None:
    torch.testing.assert_close(view(images()), images(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("turn", [-0.4, -0.05, 0.0, 0.2, 0.5])
def test_hues_turn_as_torchvisions(turn: float) -> None:
    grey = torch.full((1, 3, 16, 16), 0.3)
    before = torch.cat([torch.rand(16, 3, 16, 16), grey, torch.zeros(1, 3, 16, 16)])
    turned = views._turned(before, torch.full((18,), turn))
    torch.testing.assert_close(turned, adjust_hue(before, turn), atol=1e-5, rtol=0)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_colours_are_distributed_as_torchvisions(strength: float) -> None:
    change = 0.8 * strength
    jitter = ColorJitter(change, change, change, 0.2 * strength)
    ours = view(images(N), colour=strength, jittered=1.0)
    assert_equal_in_distribution(ours, one_by_one(images(N), jitter))


def test_a_jitter_of_another_strength_would_be_told_apart() -> None:
    ours = view(images(N), colour=0.4, jittered=1.0)
    with pytest.raises(AssertionError):
        assert_equal_in_distribution(ours, one_by_one(images(N), ColorJitter(0.4, 0.4, 0.4, 0.1)))


def test_the_share_that_is_jittered_is_kept() -> None:
    changed = (view(images(N), colour=0.5, jittered=0.8) - images(N)).abs().amax((1, 2, 3)) > 1e-4
    assert changed.float().mean() == pytest.approx(0.8, abs=0.05)


def test_grey_images_are_torchvisions() -> None:
    before = images(N)
    after = view(before, grey=0.2)
    changed = (after - before).abs().amax((1, 2, 3)) > 1e-6
    assert changed.float().mean() == pytest.approx(0.2, abs=0.05)
    theirs = RandomGrayscale(p=1.0)(before)
    torch.testing.assert_close(after[changed], theirs[changed], atol=1e-5, rtol=0)


def test_a_blur_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.rand(4, 3, 96, 96)
    monkeypatch.setattr(views, "_BLUR_SIGMA", (1.3, 1.3))
    theirs = gaussian_blur(before, [9, 9], [1.3, 1.3])
    torch.testing.assert_close(view(before, blurred=1.0), theirs, atol=1e-5, rtol=0)


def test_widths_of_blurs_are_distributed_as_torchvisions() -> None:
    before = torch.rand(1, 3, 40, 40).expand(N, -1, -1, -1)
    ours = view(before, blurred=1.0)
    assert_equal_in_distribution(ours, one_by_one(before, GaussianBlur(5, (0.1, 2.0))))


def test_crops_are_nearly_torchvisions() -> None:
    """Which rejects those that do not fit and draws again, where ours have another aspect."""
    before = images(N, size=32)
    ours = statistics(view(before, crop=Augmentation(min_area=0.2)))
    theirs = statistics(one_by_one(before, RandomResizedCrop(32, (0.2, 1.0), antialias=False)))
    quantiles = torch.linspace(0.05, 0.95, 10)
    for a, b in zip(ours.T, theirs.T):
        torch.testing.assert_close(a.quantile(quantiles), b.quantile(quantiles), atol=0.02, rtol=0)


def test_each_image_of_a_batch_is_changed_in_its_own_way() -> None:
    torch.manual_seed(0)
    same = images(1).expand(16, -1, -1, -1)
    changed = ViewAugmentation(jittered=1.0, grey=0.0)(same).flatten(1)
    assert len(changed.unique(dim=0)) == 16


def test_the_global_random_state_decides() -> None:
    def augmented(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return ViewAugmentation(blurred=0.5)(images())

    assert torch.equal(augmented(1), augmented(1))
    assert not torch.equal(augmented(1), augmented(2))


def test_values_stay_from_0_to_1() -> None:
    torch.manual_seed(0)
    augmented = ViewAugmentation(colour=1.0, blurred=0.5)(torch.rand(200, 3, 24, 24))
    assert augmented.shape == (200, 3, 24, 24)
    assert augmented.min() >= 0 and augmented.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", ["colour", "jittered", "grey", "blurred"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_arguments_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is"):
        ViewAugmentation(**{name: value})  # type: ignore[arg-type]
