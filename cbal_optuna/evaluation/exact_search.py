"""Ranks of each query's matches among all items, by products of blocks of unit vectors.

The rank of a query's j-th best match is j plus the number of other-class items, its rivals, that
are at least as similar. So the similarities of the best max(k, R) rivals settle every rank up to
that; of those beyond it, no more than that they are is known.

On a CPU, with many items in small classes, similarities are computed in square tiles, each of
which serves its rows and, where the queries are the gallery, its columns too: half the products.
Few tiles hold one of a query's best rivals, and these lie in few groups of neighbours there: the
largest of each group tells which. Only those are searched. Else whole rows are computed and
searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import conv2d


# Up to this many, torch's heap finds the largest of a row of 1,000 sooner than a partition.
_FEW = 16
# Neighbours in a tile of which the largest is looked at first.
_GROUP = 32


@dataclass(frozen=True)
class ExactSearch:
    """Queries and gallery as unit vectors, and the gallery's rows listed class by class."""

    queries: Tensor
    gallery: Tensor
    classes: Tensor  # of the queries
    n_matches: Tensor  # of the queries
    members: Tensor  # gallery rows, class by class
    starts: Tensor  # of each class in members
    sizes: Tensor  # of each class in the gallery
    leave_one_out: bool
    k: int  # ranks up to max(k, R) are wanted

    @classmethod
    def of(
        cls,
        queries: Tensor,
        labels: Tensor,
        gallery: Tensor,
        gallery_labels: Tensor,
        *,
        leave_one_out: bool,
        k: int,
    ) -> ExactSearch:
        """List the classes.

        With ``leave_one_out`` the gallery is the queries, and none finds itself.
        """
        both = torch.cat([x.to(queries.device, torch.long) for x in (labels, gallery_labels)])
        names, both = torch.unique(both, return_inverse=True)
        # Classes alike often have labels nearby. In random order, no tile is full of near items.
        generator = torch.Generator().manual_seed(0)
        both = torch.randperm(len(names), generator=generator).to(both.device)[both]
        classes, item_classes = both.split([len(queries), len(gallery)])
        sizes = item_classes.bincount(minlength=len(names))
        return cls(
            queries=queries,
            gallery=gallery,
            classes=classes,
            n_matches=sizes[classes] - int(leave_one_out),
            members=item_classes.argsort(),
            starts=sizes.cumsum(0) - sizes,
            sizes=sizes,
            leave_one_out=leave_one_out,
            k=k,
        )

    def ranks(self, chunk_bytes: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows of queries that have a match and the ranks of their matches.

        Ranks are ascending, those beyond max(k, R) are any beyond it, and those of matches that a
        query lacks are above its R; shape (rows, most matches). Beyond results, some vectors and
        about ``chunk_bytes`` are held.
        """
        max_matches = int(self.n_matches.max())
        n_rivals = self._n_rivals(max_matches)
        kept_bytes = self.gallery.itemsize * len(self.queries) * (n_rivals + max_matches + 1)
        # Up to eight tiles at once: the tile, what is searched of it, and indices.
        side = isqrt(chunk_bytes // (8 * self.gallery.itemsize))
        # In whole groups.
        side = side // _GROUP * _GROUP or side
        # With fewer tiles a query's best rivals lie in most of them.
        tiles_pay = 2 * n_rivals * side <= len(self.gallery)
        if self.queries.device.type == "cpu" and kept_bytes <= chunk_bytes and tiles_pay:
            return self._ranks_by_tiles(side, n_rivals)
        return self._ranks_by_rows(chunk_bytes)

    def _n_rivals(self, n_matches: int) -> int:
        return min(max(self.k, n_matches), len(self.gallery))

    def _ranks_by_rows(self, chunk_bytes: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Queries with the most matches first."""
        n_matches, order = self.n_matches.sort(descending=True)
        counts = n_matches[n_matches > 0].tolist()
        start = 0
        while start < len(counts):
            n_rivals = self._n_rivals(counts[start])
            # A row of similarities, and some indices and values for each match and each rival.
            row_bytes = self.gallery.itemsize * len(self.gallery) + 64 * n_rivals
            stop = min(start + max(1, chunk_bytes // row_bytes), len(counts))
            rows = order[start:stop]
            yield rows, self._ranks_of_rows(rows, counts[start], n_rivals)
            start = stop

    def _ranks_of_rows(self, rows: Tensor, max_matches: int, n_rivals: int) -> Tensor:
        similarity = self.queries[rows] @ self.gallery.T
        classes = self.classes[rows, None]
        slots = torch.arange(max_matches + self.leave_one_out, device=similarity.device)
        # Slots beyond the class repeat its last member.
        members = self.members[self.starts[classes] + slots.minimum(self.sizes[classes] - 1)]
        absent = slots >= self.sizes[classes]
        if self.leave_one_out:
            absent |= members == rows[:, None]
        matches = similarity.gather(1, members).masked_fill_(absent, -torch.inf)
        similarity.scatter_(1, members, -torch.inf)
        return _ranks(matches, _largest(similarity, n_rivals), self.leave_one_out)

    def _ranks_by_tiles(self, side: int, n_rivals: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All queries, class by class."""
        tiles = _Tiles.of(self, n_rivals, side)
        columns = _slices(len(self.gallery), side)
        for i, rows in enumerate(_slices(len(self.queries), side)):
            for own in columns[i if self.leave_one_out else 0 :]:
                tiles.add(rows, own)
        asked = self.n_matches[tiles.order] > 0
        kept = tiles.order[asked], tiles.matches[asked], tiles.rivals[asked]
        for rows, matches, rivals in zip(*(tensor.split(side) for tensor in kept), strict=True):
            yield rows, _ranks(matches, rivals, self.leave_one_out)


@dataclass(frozen=True)
class _Tiles:
    """Similarities of each query's matches and its best rivals so far, queries class by class."""

    queries: Tensor
    gallery: Tensor
    classes: Tensor
    item_classes: Tensor
    slots: Tensor  # of the gallery's items among their class
    order: Tensor  # of the queries
    matches: Tensor
    rivals: Tensor
    symmetric: bool

    @classmethod
    def of(cls, search: ExactSearch, n_rivals: int, side: int) -> _Tiles:
        order = search.members if search.leave_one_out else search.classes.argsort()
        queries = search.queries[order]
        item_classes = torch.arange(len(search.sizes)).repeat_interleave(search.sizes)
        n_slots = int(search.n_matches.max()) + search.leave_one_out
        return cls(
            queries=queries,
            gallery=queries if search.leave_one_out else search.gallery[search.members],
            classes=search.classes[order],
            item_classes=item_classes,
            slots=torch.arange(len(item_classes)) - search.starts[item_classes],
            order=order,
            matches=queries.new_full((len(queries), n_slots), -torch.inf),
            rivals=queries.new_full((len(queries), n_rivals), -torch.inf),
            symmetric=search.leave_one_out,
        )

    def add(self, rows: slice, columns: slice) -> None:
        """Compare queries with items and, where both are the same, items with queries."""
        queries, gallery = self.queries[rows], self.gallery[columns]
        tile = _products(queries, gallery)
        mirrored = self.symmetric and rows != columns
        if self.symmetric and not mirrored:
            tile.fill_diagonal_(-torch.inf)
        first, last = self.classes[rows.start], self.classes[rows.stop - 1]
        if (
            first <= self.item_classes[columns.stop - 1]
            and last >= self.item_classes[columns.start]
        ):
            self._move_matches(tile, rows.start, columns.start, mirrored)
        height, width = tile.shape
        largest = tile.unflatten(1, (-1, gcd(width, _GROUP))).amax(dim=2)
        self._keep_rivals(tile, largest, rows)
        if mirrored:
            # Of the transposed tile it would take many times as long.
            largest = tile.unflatten(0, (-1, gcd(height, _GROUP))).amax(dim=1).T
            self._keep_rivals(tile.T, largest, columns)

    def _move_matches(self, tile: Tensor, top: int, left: int, mirrored: bool) -> None:
        height, width = tile.shape
        same = self.classes[top : top + height, None] == self.item_classes[left : left + width]
        i, j = same.nonzero(as_tuple=True)
        similarity = tile[i, j]
        self.matches[top + i, self.slots[left + j]] = similarity
        if mirrored:
            self.matches[left + j, self.slots[top + i]] = similarity
        tile[i, j] = -torch.inf

    def _keep_rivals(self, similarity: Tensor, largest: Tensor, rows: slice) -> None:
        """``largest`` is that of each group of neighbours in a row, (rows, groups)."""
        rivals = self.rivals[rows]
        n_rivals, n_groups = rivals.shape[1], largest.shape[1]
        (better,) = (largest.amax(dim=1) > rivals.amin(dim=1)).nonzero(as_tuple=True)
        if len(better):
            best = largest[better].topk(min(n_rivals, n_groups), sorted=False).indices
            found = similarity.unflatten(1, (n_groups, -1))[better[:, None], best].flatten(1)
            rivals[better] = _largest(torch.cat([rivals[better], found], dim=1), n_rivals)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Of all rows, (rows of a, rows of b). They are computed as a convolution of one pixel, which
    is oneDNN's work: on some processors it takes half the time of the product of two matrices."""
    if not torch.backends.mkldnn.is_available():
        return a @ b.T
    pixels = a[None, :, None].permute(0, 3, 1, 2)
    return conv2d(pixels, b[:, :, None, None]).permute(0, 2, 3, 1).reshape(len(a), len(b))


def _ranks(matches: Tensor, rivals: Tensor, spare: bool) -> Tensor:
    """Ranks of matches; -inf is a match that is not there, ``spare`` whether every row has one."""
    matches = matches.sort(dim=1, descending=True).values[:, : matches.shape[1] - spare]
    rivals = rivals.sort(dim=1).values
    ahead = rivals.shape[1] - torch.searchsorted(rivals, matches.contiguous())
    return ahead + torch.arange(1, matches.shape[1] + 1, device=matches.device)


def _largest(values: Tensor, k: int) -> Tensor:
    """The k largest of each row in any order; what is in ``values`` is moved."""
    if k <= _FEW or values.device.type != "cpu":
        return values.topk(k, sorted=False).values
    values.numpy().partition(values.shape[1] - k, axis=1)
    return values[:, values.shape[1] - k :]


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
