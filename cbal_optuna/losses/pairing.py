"""Which samples are compared with which."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Pairing:
    """Pairs of the same class are positive, all others negative.

    Attributes:
        labels: The anchors' classes, (n,).
        ref_labels: The references', (m,); None if the references are the anchors.
        self_start: Anchor i is reference `self_start + i`; None if the anchors are not among the
            references.
        over_ranks: Whether the anchors are one rank's share, of terms that are means over all.
    """

    labels: Tensor
    ref_labels: Tensor | None
    self_start: int | None
    over_ranks: bool = False
