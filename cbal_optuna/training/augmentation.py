"""Random crops, rotations and flips of whole batches, on the device, different for each image."""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid
from torch.nn.functional import grid_sample


@dataclass(frozen=True)
class Augmentation:
    """A random resized crop, rotated and perhaps mirrored, in one bilinear resampling.

    Draws from torch's global random state. Outside the image its border is repeated.

    Args:
        min_area:
            Smallest share of the image's area that a crop covers; crops of all areas up to the
            whole image are alike probable.
        max_aspect:
            Largest ratio of a crop's sides; its logarithm is uniform.
        rotation:
            Largest rotation to either side, in degrees.
        flip:
            Whether half of the images are mirrored. Not for characters.
    """

    min_area: float = 0.2
    max_aspect: float = 4 / 3
    rotation: float = 0.0
    flip: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        """Images of shape (n, 3, size, size) in, others of that shape out."""
        theta = self._transforms(len(images), images.device)
        grid = affine_grid(theta, list(images.shape), align_corners=False)
        return grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _transforms(self, n: int, device: torch.device) -> Tensor:
        """Affine maps (n, 2, 3) from output to input positions, in [-1, 1] over the image."""

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(n, device=device) * (high - low) + low

        area = uniform(self.min_area, 1.0)
        log_aspect = uniform(-math.log(self.max_aspect), math.log(self.max_aspect))
        width = (area * log_aspect.exp()).sqrt().clamp_max(1.0)
        height = (area / log_aspect.exp()).sqrt().clamp_max(1.0)
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
