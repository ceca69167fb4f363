"""Views for self-supervised learning: crops with other colours, of whole batches on the device,
different for each image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field

import torch
from torch import Tensor
from torch.nn.functional import pad

from cbal_optuna.training.augmentation import Augmentation
from cbal_optuna.training.device_rows import on_device


# Of red, green and blue in a grey value (ITU-R BT.601, as torchvision has them).
_GREY = (0.2989, 0.587, 0.114)
# Brightness is 0.
_CONTRAST, _SATURATION, _HUE = 1, 2, 3
_BLUR_SIGMA = (0.1, 2.0)


@dataclass(frozen=True)
class ViewAugmentation:
    """A crop, colour jitter, grey and blur, as in Chen et al., 'A Simple Framework for Contrastive
    Learning of Visual Representations' (SimCLR, 2020).

    Views are distributed as those of torchvision's ColorJitter, RandomGrayscale and GaussianBlur,
    and of its RandomResizedCrop as :class:`Augmentation` is, each image having factors and an
    order of its own. Draws from torch's global random state.

    Args:
        crop:
            The crop and the flip.
        colour:
            Strength of the jitter, from 0 to 1: brightness, contrast and saturation change by a
            factor of up to 1 +- 0.8 times this, the hue by up to 0.2 times this of its circle.
        jittered, grey, blurred:
            Shares of the images that are jittered, made grey and blurred (with a standard
            deviation of 0.1 to 2 pixels; not for images of 32 pixels).

    Raises:
        ValueError: An argument is out of its range.
    """

    crop: Augmentation = field(default_factory=Augmentation)
    colour: float = 0.5
    jittered: float = 0.8
    grey: float = 0.2
    blurred: float = 0.0

    def __post_init__(self) -> None:
        for name in ("colour", "jittered", "grey", "blurred"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it should be from 0 to 1.")

    def __call__(self, images: Tensor) -> Tensor:
        """Images of shape (n, 3, size, size) in [0, 1] in, others of that shape out."""
        images = self._jittered(self.crop(images))
        _change(images, _chosen(len(images), self.grey), _grey)
        _change(images, _chosen(len(images), self.blurred), _blurred)
        return images

    def _jittered(self, images: Tensor) -> Tensor:
        """Brightness, contrast, saturation and hue, in place, image by image in an order of its
        own: first what comes before the hue, then the hue, then the rest."""
        n = len(images)
        order = torch.rand(n, 4).argsort(dim=1)
        factors = 1.0 + 0.8 * self.colour * (2.0 * torch.rand(n, 3) - 1.0)
        turns = 0.2 * self.colour * (2.0 * torch.rand(n) - 1.0)
        chosen = _chosen(n, self.jittered).nonzero()[:, 0]
        # Those whose hue comes at the same place lie side by side.
        place, by_place = (order[chosen] == _HUE).int().argmax(dim=1).sort()
        rows = chosen[by_place]
        blends = order[rows][order[rows] != _HUE].view(-1, 3)
        on_grey = torch.where(blends == _SATURATION, 1.0 - factors[rows], 0.0)
        on_mean = torch.where(blends == _CONTRAST, 1.0 - factors[rows], 0.0)
        weights = on_device(torch.stack([factors[rows], on_grey, on_mean]), images.device)
        rows_there = on_device(rows, images.device)
        some = images.index_select(0, rows_there)
        # Of each blend, how many images have it after the hue.
        after = [int((place <= i).sum()) for i in range(3)]
        for i in range(3):
            _blend(some[after[i] :], *weights[:, after[i] :, i])
        some = _turned(some, on_device(turns[rows], images.device))
        for i in range(3):
            _blend(some[: after[i]], *weights[:, : after[i], i])
        return images.index_copy_(0, rows_there, some)


def _chosen(n: int, share: float) -> Tensor:
    """Some of n images, at random: bool, (n,), on the CPU, which so knows without waiting which
    they are."""
    return torch.rand(n) < share


def _change(
    images: Tensor, chosen: Tensor, change: Callable[..., Tensor], *arguments: Tensor
) -> None:
    """Change the chosen ones of the images, in place; arguments are on the CPU."""
    if not chosen.any():
        return
    rows = on_device(chosen.nonzero()[:, 0], images.device)
    some = images.index_select(0, rows)
    changed = change(some, *(on_device(argument, images.device) for argument in arguments))
    images.index_copy_(0, rows, changed.expand_as(some))


def _blend(images: Tensor, factor: Tensor, on_grey: Tensor, on_mean: Tensor) -> None:
    """Towards or away from black (brightness), the mean grey value (contrast) or the grey values
    (saturation), in place, by weights (n,) on the image and on the latter two."""
    grey = _grey(images)
    mean = grey.mean(dim=(1, 2, 3))
    shift = grey.mul_(_per_image(on_grey)).add_(_per_image(on_mean * mean))
    images.mul_(_per_image(factor)).add_(shift).clamp_(0.0, 1.0)


def _per_image(numbers: Tensor) -> Tensor:
    return numbers.view(-1, 1, 1, 1)


def _grey(images: Tensor) -> Tensor:
    """The grey values, (n, 1, size, size)."""
    red, green, blue = images.split(1, dim=1)
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])


def _turned(images: Tensor, turns: Tensor) -> Tensor:
    """With other hues, saturation and value (of HSV) being kept: a turn of 1 is the whole circle.

    With hues h from 0 to 6, from red over green and blue to red, the largest channel of a pixel
    is its value, the smallest its value less its chroma, and a channel is the smallest plus the
    chroma times |h - 3| - 1 for red, 2 - |h - 2| for green and 2 - |h - 4| for blue, from 0 to 1.
    """
    red, green, blue = images.unbind(dim=1)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - smallest
    # Numbers, not truth values: on a CPU, choosing by the latter takes ten times as long.
    is_red, is_green = red.clone().eq_(value), green.clone().eq_(value)
    is_green.addcmul_(is_green, is_red, value=-1.0)
    is_blue = 1.0 - is_red - is_green
    hue = (green - blue).mul_(is_red)
    hue.addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    # Without any chroma, all differences are 0.
    hue.div_(chroma.clamp_min(1e-12)).add_(is_green, alpha=2.0).add_(is_blue, alpha=4.0)
    hue.add_(6.0 * turns.view(-1, 1, 1))
    hue.sub_((hue / 6.0).floor_(), alpha=6.0)
    shares = ((hue - 3.0).abs_() - 1.0, 2.0 - (hue - 2.0).abs_(), 2.0 - (hue - 4.0).abs_())
    channels = [torch.addcmul(smallest, chroma, share.clamp_(0.0, 1.0)) for share in shares]
    return torch.stack(channels, dim=1)


def _blurred(images: Tensor) -> Tensor:
    """By a Gaussian of random width for each image; its window is a tenth of the image."""
    size = images.shape[-1]
    half = max(1, size // 20)
    low, high = _BLUR_SIGMA
    sigma = torch.rand(len(images), 1, device=images.device) * (high - low) + low
    taps = torch.arange(-half, half + 1, device=images.device)
    weights = (-0.5 * (taps / sigma).square()).softmax(dim=1)
    for axis in (2, 3):
        padding = [half, half, 0, 0] if axis == 3 else [0, 0, half, half]
        padded = pad(images, padding, mode="reflect")
        images = torch.zeros_like(images)
        for i in range(2 * half + 1):
            images.addcmul_(padded.narrow(axis, i, size), weights[:, i].view(-1, 1, 1, 1))
    return images
