"""Which parameters the trials of a study have, and of which other parameter that is a matter.

Optuna's search spaces are defined by running the objective, so that nobody says when a parameter
is asked for. It is read off the trials: the temperature stands in those whose loss is InfoNCE, and
in no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from cbal_optuna.search import Axis
from cbal_optuna.search import Condition
from cbal_optuna.search import Space


# Of an axis that others may depend on: of more, each trial is likely to be at one of its own.
_MOST_LEVELS = 100
# More sets of parameters are not told apart: what there is of each would be too little to go by.
_MOST_KINDS = 32


class Parameters:
    """Those of completed trials.

    Attributes:
        common:
            The parameters that all have with equal distributions, sorted by name; :obj:`None`
            without any trial.
    """

    def __init__(self) -> None:
        self.common: dict[str, BaseDistribution] | None = None
        # None: of several distributions.
        self._distributions: dict[str, BaseDistribution | None] = {}
        # By the names of its parameters, what a kind of trials has as values, in Optuna's
        # internal representation.
        self._kinds: dict[frozenset[str], dict[str, set[float]]] = {}

    def add(self, trial: FrozenTrial) -> None:
        distributions = trial.distributions
        known = distributions if self.common is None else self.common
        self.common = common_distributions(known, distributions)
        for name, d in distributions.items():
            if self._distributions.setdefault(name, d) != d:
                self._distributions[name] = None
        values = self._kinds.setdefault(frozenset(distributions), {})
        for name, d in distributions.items():
            if _may_decide(d):
                internal = d.to_internal_repr(trial.params[name])
                values.setdefault(name, set()).add(internal)

    def knows(self, name: str) -> bool:
        """Whether any trial has a parameter of this name."""
        return name in self._distributions

    @property
    def names(self) -> list[str]:
        """Of all parameters that any trial has, sorted."""
        return sorted(self._distributions)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Those that all trials have, or some as another one decides, sorted by name."""
        conditional = {name: d for name, (d, _) in self._conditional().items()}
        return dict(sorted({**(self.common or {}), **conditional}.items()))

    def space(self, distributions: Mapping[str, BaseDistribution]) -> Space:
        """Of these parameters, without those that depend on one that is not among them."""
        conditions = [condition for _, condition in self._conditional().values()]
        left_out = {c.name for c in conditions if c.on not in distributions}
        kept = {name: d for name, d in distributions.items() if name not in left_out}
        return Space.of(kept, conditions)

    def _conditional(self) -> dict[str, tuple[BaseDistribution, Condition]]:
        """The parameters, sorted by name, that some trials have, as another one decides that all
        have: at each of its choices all have them or none; of numbers, on one side.

        Where several parameters might be the one that decides, it is one without an order before
        others, then the one of the fewest values.
        """
        if not 1 < len(self._kinds) <= _MOST_KINDS:
            return {}
        axes = [Axis(n, d) for n, d in (self.common or {}).items() if _may_decide(d)]
        axes.sort(key=lambda axis: (not axis.nominal, axis.n_levels or 0))
        found = {}
        for name, d in sorted(self._distributions.items()):
            if d is None or d.single() or name in (self.common or {}):
                continue
            condition = next(self._conditions(name, axes), None)
            if condition is not None:
                found[name] = (d, condition)
        return found

    def _conditions(self, name: str, axes: list[Axis]) -> Iterator[Condition]:
        for axis in axes:
            at: dict[bool, set[float]] = {True: set(), False: set()}
            for names, values in self._kinds.items():
                at[name in names] |= {
                    axis.encode(axis.distribution.to_external_repr(value))
                    for value in values[axis.name]
                }
            with_it, without = at[True], at[False]
            if axis.nominal and not with_it & without:
                yield Condition(name, axis.name, tuple((p, p) for p in sorted(without)))
            elif not axis.nominal and max(without) < min(with_it):
                yield Condition(name, axis.name, ((0.0, max(without)),))
            elif not axis.nominal and max(with_it) < min(without):
                yield Condition(name, axis.name, ((min(without), 1.0),))


def common_distributions(
    *distributions: Mapping[str, BaseDistribution],
) -> dict[str, BaseDistribution]:
    """The parameters that all have with equal distributions, sorted by name."""
    common = dict(distributions[0]) if distributions else {}
    for other in distributions[1:]:
        common = {name: d for name, d in common.items() if other.get(name) == d}
    return dict(sorted(common.items()))


def _may_decide(distribution: BaseDistribution) -> bool:
    n_levels = None if distribution.single() else Axis("", distribution).n_levels
    return n_levels is not None and n_levels <= _MOST_LEVELS
