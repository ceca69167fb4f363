"""Which trial is at which point: what trials have, will have, or have claimed.

A claim is one small system attribute on the claiming trial itself, which no other trial writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.search import Space


if TYPE_CHECKING:
    from optuna.study import Study

_CLAIM = "cbal:claim"


def known_values(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    """The values that a trial has, will have or had, as far as they are known."""
    fixed = trial.system_attrs.get("fixed_params", {})
    claim = trial.system_attrs.get(_CLAIM, {})
    values = {}
    for axis in space.axes:
        name = axis.name
        if name in trial.params:
            values[name] = trial.params[name]
        elif name in fixed:
            values[name] = fixed[name]
        elif name in claim:
            values[name] = axis.distribution.to_external_repr(claim[name])
    return values


def may_move(trial: FrozenTrial) -> bool:
    """Whether a trial under way may not have verified its claim yet."""
    return trial.state == TrialState.RUNNING and _CLAIM in trial.system_attrs and not trial.params


def write_claim(
    study: Study,
    trial: FrozenTrial,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
) -> None:
    claim = {n: float(distributions[n].to_internal_repr(v)) for n, v in params.items()}
    study._storage.set_trial_system_attr(trial._trial_id, _CLAIM, claim)
