"""Random crops, rotations and flips of whole batches, on the device, different for each image."""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


# As often as torchvision draws a crop.
_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """A random resized crop, rotated and perhaps mirrored, in one bilinear resampling.

    Draws from torch's global random state. Outside the image its border is repeated. Without a
    rotation, crops and flips are distributed as those of torchvision's RandomResizedCrop and
    RandomHorizontalFlip, but that they need not begin and end with a whole pixel.

    Args:
        min_area:
            Smallest share of the image's area that a crop covers. Areas up to the whole image are
            drawn alike, again where the crop would not fit into the image; after ten of these it
            is the whole image.
        max_aspect:
            Largest ratio of a crop's sides; its logarithm is drawn uniformly with the area.
        rotation:
            Largest rotation to either side, in degrees.
        flip:
            Whether half of the images are mirrored. Not for characters.

    Raises:
        ValueError: An argument is out of its range.
    """

    min_area: float = 0.2
    max_aspect: float = 4 / 3
    rotation: float = 0.0
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise ValueError(f"`min_area` is {self.min_area}; it should be above 0, at most 1.")
        if not 1 <= self.max_aspect < math.inf:
            raise ValueError(f"`max_aspect` is {self.max_aspect}; it should be at least 1.")
        if not 0 <= self.rotation < math.inf:
            raise ValueError(f"`rotation` is {self.rotation}; it should be at least 0 degrees.")

    def __call__(self, images: Tensor) -> Tensor:
        """Images of shape (n, 3, size, size) in, others of that shape out."""
        grid = _grid(self._transforms(len(images), images.device), images.shape[-1])
        return grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _transforms(self, n: int, device: torch.device) -> Tensor:
        """Affine maps (n, 2, 3) from output to input positions, in [-1, 1] over the image."""

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(n, device=device) * (high - low) + low

        width, height = self._sides(n, device)
        x = uniform(-1.0, 1.0) * (1.0 - width)
        y = uniform(-1.0, 1.0) * (1.0 - height)
        angle = uniform(-math.radians(self.rotation), math.radians(self.rotation))
        mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0) if self.flip else 1.0
        cos, sin = angle.cos(), angle.sin()
        rows = (
            torch.stack([mirror * width * cos, -height * sin, x], dim=1),
            torch.stack([mirror * width * sin, height * cos, y], dim=1),
        )
        return torch.stack(rows, dim=1)

    def _sides(self, n: int, device: torch.device) -> Tensor:
        """Widths and heights of crops as shares of the image's, (2, n)."""
        tries = torch.rand(2, _TRIES, n, device=device)
        log_area = (self.min_area + (1.0 - self.min_area) * tries[0]).log()
        log_aspect = math.log(self.max_aspect) * (2.0 * tries[1] - 1.0)
        sides = (0.5 * torch.stack([log_area + log_aspect, log_area - log_aspect])).exp()
        fits = (sides <= 1.0).all(dim=0)
        # The first of the largest, and the whole image where none fits.
        first = fits.int().argmax(dim=0).expand(2, 1, n)
        return torch.where(fits.any(dim=0), sides.gather(1, first)[:, 0], 1.0)


def _grid(transforms: Tensor, size: int) -> Tensor:
    """Input positions (n, size, size, 2) of the pixels of the output, as torch's ``affine_grid``
    has them."""
    centres = (torch.arange(size, device=transforms.device) + 0.5) * (2.0 / size) - 1.0
    by_column = transforms[:, :, 0, None] * centres
    by_row = transforms[:, :, 1, None] * centres + transforms[:, :, 2, None]
    # Complex numbers x + iy are added many at once, and lie in memory as pairs (x, y) do.
    columns, rows = torch.complex(*by_column.unbind(1)), torch.complex(*by_row.unbind(1))
    return torch.view_as_real(columns[:, None, :] + rows[:, :, None])
