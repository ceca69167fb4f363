"""Optuna distributions as axes on [0, 1].

Floats are continuous, on a log scale where the distribution is. Ints, stepped floats and
categoricals have *levels*. A categorical whose choices are numbers in increasing order is an
*ordered* axis (batch sizes, say); every other categorical is *nominal*: its levels have positions
but no neighbours.

An axis may be without effect at some positions of another one, as the temperature is where the
loss has none. There it is at its middle, so that equal settings are equal points.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution


Point = tuple[float, ...]

# Positions are rounded to this many decimals, so that a point is recognised after a round trip
# through a storage or a float32 broadcast; a hyper-parameter is never needed more exactly than a
# millionth of its range.
_DECIMALS = 6
# Of arrays of positions, which are not rounded.
_TOLERANCE = 2e-6


@dataclass(frozen=True)
class Axis:
    """One hyper-parameter as positions on [0, 1].

    Args:
        name:
            The parameter's name.
        distribution:
            Its distribution, with more than one value.
    """

    name: str
    distribution: BaseDistribution

    @cached_property
    def nominal(self) -> bool:
        d = self.distribution
        return isinstance(d, CategoricalDistribution) and not _increasing(d.choices)

    @cached_property
    def n_levels(self) -> int | None:
        """The number of values, or :obj:`None` where they are a continuum."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return len(d.choices)
        assert isinstance(d, (FloatDistribution, IntDistribution))
        if d.step is None:
            return None
        return round((d.high - d.low) / d.step) + 1

    def decode(self, position: float) -> Any:
        """The value nearest to a position, as Optuna's ``suggest_*`` returns it."""
        d = self.distribution
        position = min(max(position, 0.0), 1.0)
        if isinstance(d, CategoricalDistribution):
            return d.choices[round(position * (len(d.choices) - 1))]
        assert isinstance(d, (FloatDistribution, IntDistribution))
        if d.log:
            value = math.exp(_mix(math.log(d.low), math.log(d.high), position))
            # Twelve digits: 64.0 rather than 63.99999999999998.
            value = float(f"{value:.12g}") if d.step is None else round(value)
        elif d.step is None:
            value = _mix(d.low, d.high, position)
        else:
            value = d.low + d.step * round(position * ((d.high - d.low) / d.step))
        return min(max(value, d.low), d.high)

    def encode(self, value: Any) -> float:
        """The position of a value; outside [0, 1] if the distribution does not contain it."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return round(float(d.to_internal_repr(value)) / (len(d.choices) - 1), _DECIMALS)
        assert isinstance(d, (FloatDistribution, IntDistribution))
        if not d.log:
            position = _share(d.low, d.high, value)
        elif value > 0:
            position = _share(math.log(d.low), math.log(d.high), math.log(value))
        else:
            position = -math.inf
        return round(position, _DECIMALS)

    def snap(self, position: float) -> float:
        """The nearest position that is a value of the axis."""
        return self.encode(self.decode(position))

    def snap_all(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """:meth:`snap` for an array, to rounding."""
        d = self.distribution
        if self.n_levels is None:
            return positions
        if isinstance(d, IntDistribution) and d.log:
            low, high = math.log(d.low), math.log(d.high)
            values = np.clip(np.rint(np.exp(low + positions * (high - low))), d.low, d.high)
            return (np.log(values) - low) / (high - low)
        return np.rint(positions * (self.n_levels - 1)) / (self.n_levels - 1)

    def move(self, position: float, change: float) -> float:
        """The position of the value nearest to ``position + change``: another value than at
        ``position`` if there is one on that side."""
        moved = self.snap(position + change)
        if moved != position or self.n_levels is None:
            return moved
        return self.neighbour(position, change)

    def neighbour(self, position: float, side: float) -> float:
        """The next level above (``side > 0``) or below ``position``; ``position`` itself at the
        end of the axis."""
        d = self.distribution
        sign = 1 if side > 0 else -1
        if isinstance(d, IntDistribution) and d.log:
            return self.encode(min(max(self.decode(position) + sign, d.low), d.high))
        assert self.n_levels is not None
        return self.snap(position + sign / (self.n_levels - 1))

    def levels(self) -> Iterator[float]:
        """The positions of all values in increasing order; none where they are a continuum."""
        position, above = -1.0, 0.0
        while self.n_levels is not None and above > position:
            yield above
            position, above = above, self.neighbour(above, 1.0)

    def at_random(self, u: float) -> float:
        """A random position, from ``u`` uniform on [0, 1): all levels are equally likely, or, on a
        log scale, each in proportion to its width."""
        d = self.distribution
        if self.n_levels is None or (isinstance(d, IntDistribution) and d.log):
            return self.snap(u)
        return self.snap(math.floor(u * self.n_levels) / (self.n_levels - 1))


@dataclass(frozen=True)
class Condition:
    """Where an axis is without effect.

    Args:
        name:
            The axis.
        on:
            The axis that this depends on, which itself always has an effect.
        without:
            From where to where on that one, ends included.
    """

    name: str
    on: str
    without: tuple[tuple[float, float], ...]

    def holds(self, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the axis is without effect at these positions on the other one."""
        within = np.zeros(positions.shape, dtype=bool)
        for low, high in self.without:
            within |= (positions >= low - _TOLERANCE) & (positions <= high + _TOLERANCE)
        return within


@dataclass(frozen=True)
class Space:
    """The axes of a search space, in the order in which a :obj:`Point` lists their positions, and
    where some of them are without effect."""

    axes: tuple[Axis, ...]
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def of(
        cls,
        distributions: Mapping[str, BaseDistribution],
        conditions: Iterable[Condition] = (),
    ) -> Space:
        """The space of Optuna distributions, without those that allow a single value."""
        axes = tuple(Axis(name, d) for name, d in distributions.items() if not d.single())
        names = {axis.name for axis in axes}
        return cls(axes, tuple(c for c in conditions if {c.name, c.on} <= names))

    @cached_property
    def names(self) -> list[str]:
        return [axis.name for axis in self.axes]

    @cached_property
    def size(self) -> float:
        """The number of points; infinite with a continuous axis."""
        sizes = {axis.name: axis.n_levels or math.inf for axis in self.axes}
        dependent = {c.name: sizes.pop(c.name) for c in self.conditions}
        for on in {c.on for c in self.conditions}:
            own = [c for c in self.conditions if c.on == on]
            positions = np.array(list(self.axes[self.names.index(on)].levels()))
            without = [c.holds(positions) for c in own]
            sizes[on] = sum(
                math.prod(dependent[c.name] for c, none in zip(own, at) if not none)
                for at in zip(*without)
            )
        return math.prod(sizes.values())

    def points(self) -> Iterator[Point]:
        """All points, of a space whose axes all have levels; none of any other."""
        everything = itertools.product(*(axis.levels() for axis in self.axes))
        return (point for point in everything if self.pinned(point) == point)

    def idle(self, point: Point) -> set[str]:
        """The names of the axes that are without effect at a point."""
        if not self.conditions:
            return set()
        at = dict(zip(self.names, point))
        return {c.name for c in self.conditions if c.holds(np.array(at[c.on]))}

    def pinned(self, point: Point) -> Point:
        """The point with the axes that are without effect there at their middle."""
        idle = self.idle(point)
        if not idle:
            return point
        return tuple(a.snap(0.5) if a.name in idle else p for a, p in zip(self.axes, point))

    def encode(self, params: Mapping[str, Any]) -> Point | None:
        """The point of a setting; :obj:`None` where a parameter that has an effect is missing, or
        any is outside its distribution."""
        try:
            at = {a.name: a.encode(params[a.name]) for a in self.axes if a.name in params}
            for c in self.conditions:
                if c.name not in at and c.holds(np.array(at[c.on])):
                    at[c.name] = 0.5
            point = tuple(at[name] for name in self.names)
        except (KeyError, OverflowError, TypeError, ValueError):
            return None
        return self.snap(point) if all(0.0 <= p <= 1.0 for p in point) else None

    def decode(self, point: Point) -> dict[str, Any]:
        """The setting of a point."""
        return {a.name: a.decode(p) for a, p in zip(self.axes, point, strict=True)}

    def snap_all(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """:meth:`snap` for an array of shape (n, number of axes), to rounding."""
        columns = {a.name: a.snap_all(points[:, j]) for j, a in enumerate(self.axes)}
        for c in self.conditions:
            middle = self.axes[self.names.index(c.name)].snap(0.5)
            columns[c.name] = np.where(c.holds(columns[c.on]), middle, columns[c.name])
        return np.column_stack([columns[name] for name in self.names])

    def snap(self, point: Sequence[float]) -> Point:
        """The nearest point of the space."""
        return self.pinned(tuple(a.snap(p) for a, p in zip(self.axes, point, strict=True)))


def _increasing(choices: Sequence[Any]) -> bool:
    if not all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in choices):
        return False
    return all(a < b for a, b in zip(choices, choices[1:]))


def _mix(low: float, high: float, share: float) -> float:
    return low * (1.0 - share) + high * share


def _share(low: float, high: float, value: float) -> float:
    if math.isinf(high - low):
        low, high, value = low / 2.0, high / 2.0, value / 2.0
    # The logarithms of two neighbouring numbers may be equal.
    return (value - low) / (high - low) if low < high else value - low
