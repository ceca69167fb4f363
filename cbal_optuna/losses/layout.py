"""Anchors and references in the order of their classes, and the blocks of rows in which the matrix
of their similarities is gone through; or a small batch, for which neither would pay.

In the order of the classes the references of an anchor's class are neighbours: what a block leaves
out lies in a narrow band of it, and nothing else has to be looked at for that.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor


# Similarities in a block: few enough for a processor's cache, many enough to keep a GPU busy.
_BLOCK_SIZE, _BLOCK_SIZE_ON_GPU = 2**20, 2**27
# Matrix products of fewer rows are slow.
_MIN_ROWS = 64
# In a small batch: sorting takes as long as a few passes over so many similarities.
_SMALL_SHARE_OF_BLOCK = 1 / 32


@dataclass(frozen=True)
class UnitVectors:
    """Embeddings divided by their lengths.

    Attributes:
        directions: The quotients, (n, d); an embedding of length zero stays zero.
        lengths: (n, 1); infinity instead of zero, so that there the gradient is zero.
    """

    directions: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> UnitVectors:
        # First divided by their largest entries, as the squares of large ones overflow.
        largest = embeddings.abs().amax(dim=1, keepdim=True)
        largest.clamp_min_(torch.finfo(largest.dtype).tiny)
        directions = embeddings / largest
        lengths = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        lengths.masked_fill_(lengths == 0, torch.inf)
        return cls(directions.div_(lengths), lengths.mul_(largest))

    def __getitem__(self, order: Tensor) -> UnitVectors:
        return UnitVectors(
            self.directions.index_select(0, order), self.lengths.index_select(0, order)
        )

    def gradient(self, by_directions: Tensor) -> Tensor:
        """The gradient with respect to the embeddings, from that to their directions."""
        along = torch.linalg.vecdot(by_directions, self.directions)[:, None]
        return torch.addcmul(by_directions, along, self.directions, value=-1.0).div_(self.lengths)


class SmallBatch:
    """A batch all of whose similarities can be held a few times over, in the order it came in.

    Args:
        anchors: (n, d).
        labels: Their classes, (n,).

    Attributes:
        anchors: The argument, which are the references too.
        similarity: (n, n).
        same_class: Where that is between samples of one class, (n, n).
        positive: 1 between different samples of one class, 0 elsewhere, (n, n).
        n_positives, n_negatives: The numbers of an anchor's, (n,).
    """

    own_batch = True
    order = None

    def __init__(self, anchors: UnitVectors, labels: Tensor) -> None:
        self.anchors = anchors
        self.similarity = anchors.directions @ anchors.directions.T
        labels = labels.to(self.similarity.device)
        self.same_class = labels[:, None] == labels
        self.positive = self.same_class.to(self.similarity.dtype).fill_diagonal_(0.0)
        self.n_positives = self.positive.sum(dim=1)
        self.n_negatives = len(labels) - 1 - self.n_positives

    @staticmethod
    def fits(n: int) -> bool:
        """Whether a batch of n is one."""
        return n * n <= _SMALL_SHARE_OF_BLOCK * _BLOCK_SIZE


@dataclass(frozen=True)
class Block:
    """The similarities of some anchors to the references from `column` on.

    Attributes:
        rows: The anchors.
        column: The first reference.
        band: The columns, counted from `column`, between which all references of the rows'
            classes lie.
    """

    rows: slice
    column: int
    band: slice

    @property
    def n_rows(self) -> int:
        n_rows: int = self.rows.stop - self.rows.start
        return n_rows


class Layout:
    """Anchors and references, each in the order of their classes.

    Args:
        anchors: (n, d).
        labels: Their classes, (n,).
        references: (m, d); by default, the anchors.
        ref_labels: Their classes, (m,).
        self_start: Anchor i is reference `self_start + i`; None if the anchors are not among the
            references.

    Attributes:
        anchors, references: In the order of their classes.
        own_batch: Whether the references are the anchors.
        n_positives, n_negatives: The numbers of an anchor's, (n,).
    """

    def __init__(
        self,
        anchors: UnitVectors,
        labels: Tensor,
        references: UnitVectors | None = None,
        ref_labels: Tensor | None = None,
        self_start: int | None = None,
    ) -> None:
        device = anchors.directions.device
        labels, self.order = labels.to(device).sort(stable=True)
        self.anchors = anchors[self.order]
        self.own_batch = references is None
        # Each anchor's position among the references.
        self._own: Tensor | slice | None = None
        if references is None or ref_labels is None:
            self.references, self.ref_order, ref_labels = self.anchors, self.order, labels
            self._own = slice(None)
        else:
            ref_labels, self.ref_order = ref_labels.to(device).sort(stable=True)
            self.references = references[self.ref_order]
            if self_start is not None:
                self._own = self.ref_order.argsort()[self.order + self_start]
        self._labels, self._ref_labels = labels, ref_labels
        # Where the references of each anchor's class begin and end.
        self._begin = torch.searchsorted(ref_labels, labels)
        self._end = torch.searchsorted(ref_labels, labels, right=True)
        n_of_class = self._end - self._begin
        self.n_negatives = ref_labels.shape[0] - n_of_class
        self.n_positives = n_of_class if self._own is None else n_of_class - 1

    def blocks(self, *, upper: bool = False) -> list[Block]:
        """All similarities; with `upper`, those above the diagonal, the blocks on it whole."""
        n, m = self._labels.shape[0], self._ref_labels.shape[0]
        size = _BLOCK_SIZE if self._labels.device.type == "cpu" else _BLOCK_SIZE_ON_GPU
        n_rows = max(_MIN_ROWS, size // m)
        if n <= n_rows:
            return [Block(slice(0, n), 0, slice(0, m))]
        starts = list(range(0, n, n_rows))
        stops = [*starts[1:], n]
        bands = torch.stack([self._begin[starts], self._end[[stop - 1 for stop in stops]]])
        blocks = []
        for start, stop, begin, end in zip(starts, stops, *bands.tolist()):
            column = start if upper else 0
            blocks.append(
                Block(slice(start, stop), column, slice(max(begin - column, 0), end - column))
            )
        return blocks

    def buffer(self, blocks: list[Block]) -> Tensor:
        """Room for any of the blocks."""
        return self.anchors.directions.new_empty(blocks[0].n_rows * self._ref_labels.shape[0])

    def products(self, block: Block, factors: Tensor, buffer: Tensor) -> Tensor:
        """Of the block's rows of `factors`, (n, d), with the references; kept in the buffer."""
        references = self.references.directions[block.column :]
        shape = block.n_rows, references.shape[0]
        out = buffer[: math.prod(shape)].view(shape)
        return torch.mm(factors[block.rows], references.T, out=out)

    def fill_same_class(self, block: Block, values: Tensor, value: float) -> None:
        """Overwrite, in a block, what lies between samples of one class."""
        columns = slice(block.column + block.band.start, block.column + block.band.stop)
        same = self._labels[block.rows, None] == self._ref_labels[columns]
        values[:, block.band].masked_fill_(same, value)

    def fill_own(self, block: Block, values: Tensor, value: float) -> None:
        """Overwrite, in a block, what lies between an anchor and itself."""
        if isinstance(self._own, Tensor):
            values.scatter_(1, self._own[block.rows, None] - block.column, value)
        elif self._own is not None:
            values.diagonal(block.rows.start - block.column).fill_(value)

    def sums_of_positives(self) -> Tensor:
        """For each anchor, the sum of its positives, (n, d); of any references if it has none."""
        references = self.references.directions
        sums = torch.zeros_like(references).index_add_(0, self._first_of_class, references)
        own_class = sums.index_select(0, self._begin.clamp_max(references.shape[0] - 1))
        return own_class if self._own is None else own_class.sub_(references[self._own])

    def sums_over_anchors(self, values: Tensor) -> Tensor:
        """For each reference, the sum of the values, (n, d), of the anchors whose positive it is,
        (m, d). The value of an anchor without positives has to be zero."""
        n_references = len(self._ref_labels)
        sums = values.new_zeros(n_references, values.shape[1])
        sums.index_add_(0, self._begin.clamp_max(n_references - 1), values)
        sums = sums.index_select(0, self._first_of_class)
        if isinstance(self._own, Tensor):
            sums.index_add_(0, self._own, values, alpha=-1.0)
        return sums

    @property
    def _first_of_class(self) -> Tensor:
        """For each reference, the first one of its class, (m,)."""
        if self.own_batch:
            return self._begin
        return torch.searchsorted(self._ref_labels, self._ref_labels)
