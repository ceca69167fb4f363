"""Trials that violate a constraint, in Optuna 5 and in Optuna 4."""

from __future__ import annotations

from optuna.trial import BaseTrial
from optuna.trial import FrozenTrial
from optuna.trial import Trial


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether no constraint of a trial is positive."""
    for key, value in trial.system_attrs.items():
        # Optuna 4 has one list, Optuna 5 one number a constraint.
        values = value or () if key == "constraints" else (value,)
        if key.startswith("constraints") and any(v > 0 for v in values):
            return False
    return True


def record_feasibility(trial: BaseTrial, constraint: str, *, feasible: bool) -> None:
    """Say of a trial whether it meets a constraint.

    To be said of every trial that ends with a value: Optuna's GPSampler wants all of them to have
    a constraint, or none.
    """
    violation = -1.0 if feasible else 1.0
    if hasattr(trial, "set_constraint"):
        # A retry has that of the trial that was cut off after it.
        if constraint not in trial.constraints:
            trial.set_constraint(constraint, violation)
    elif isinstance(trial, Trial):
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [violation])
