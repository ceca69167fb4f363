"""Views for self-supervised learning: crops with other colours, of whole batches on the device,
different for each image."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field

import torch
from torch import Tensor
from torch.nn.functional import pad

from cbal_optuna.training.augmentation import Augmentation


# Of red, green and blue in a grey value (ITU-R BT.601, as torchvision has them).
_GREY = (0.2989, 0.587, 0.114)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_BLUR_SIGMA = (0.1, 2.0)


@dataclass(frozen=True)
class ViewAugmentation:
    """A crop, colour jitter, grey and blur, as in Chen et al., 'A Simple Framework for Contrastive
    Learning of Visual Representations' (SimCLR, 2020).

    But for the crop, which is :class:`Augmentation`'s, views are distributed as those of
    torchvision's ColorJitter, RandomGrayscale and GaussianBlur, each image having factors and an
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
        made_grey = torch.rand(len(images), 1, 1, 1, device=images.device) < self.grey
        images = torch.where(made_grey, _grey(images), images)
        if self.blurred:
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.blurred
            images = torch.where(chosen, _blurred(images), images)
        return images

    def _jittered(self, images: Tensor) -> Tensor:
        """Brightness, contrast, saturation and hue, image by image in an order of its own."""
        n, device = len(images), images.device
        # Drawn on the CPU, which so knows without waiting whose hue comes when.
        order = torch.rand(n, 4).argsort(dim=1)
        chosen = torch.rand(n, 1) < self.jittered
        hues = chosen & (order == _HUE)
        factors = 1.0 + 0.8 * self.colour * (2.0 * torch.rand(n, 4) - 1.0)
        factors = torch.where(chosen & ~hues, factors, 1.0).to(device)
        turns = (0.2 * self.colour * (2.0 * torch.rand(n) - 1.0)).to(device)
        operations = order.to(device)
        for i in range(4):
            images = _blended(images, operations[:, i], factors[:, i])
            rows = hues[:, i].nonzero()[:, 0].to(device)
            images.index_copy_(0, rows, _turned(images[rows], turns[rows]))
        return images


def _blended(images: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """Away from, or towards, black (brightness), the mean grey value (contrast) or the grey values
    (saturation), by a factor for each image; a factor of 1 leaves it as it is."""
    grey = _grey(images)
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    operation, factor = operation.view(-1, 1, 1, 1), factor.view(-1, 1, 1, 1)
    target = torch.where(operation == _CONTRAST, mean, grey)
    target = torch.where(operation == _BRIGHTNESS, 0.0, target)
    return torch.lerp(target.expand_as(images), images, factor).clamp(0.0, 1.0)


def _grey(images: Tensor) -> Tensor:
    """The grey values, (n, 1, size, size)."""
    weights = images.new_tensor(_GREY).view(3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _turned(images: Tensor, turns: Tensor) -> Tensor:
    """With other hues, saturation and value (of HSV) being kept: a turn of 1 is the whole circle.

    In HSV, channel c is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n_c + 6 hue) mod 6
    and n = 5, 3, 1 for red, green and blue.
    """
    red, green, blue = images.unbind(dim=1)
    value, brightest = images.max(dim=1)
    chroma = value - images.amin(dim=1)
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sectors = torch.stack([green - blue, blue - red, red - green], dim=1) / divisor[:, None]
    hue = sectors.gather(1, brightest[:, None])[:, 0] + 2.0 * brightest
    n = images.new_tensor([5.0, 3.0, 1.0]).view(3, 1, 1)
    k = (n + (hue + 6.0 * turns.view(-1, 1, 1))[:, None]) % 6.0
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0)


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
