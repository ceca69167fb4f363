"""Python code that uses the setting of a trial."""

from __future__ import annotations

from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from cbal_optuna.warm_start import OBJECTIVE


_LOSSES = {
    "infonce": ("SplitInfoNCELoss", ("balance", "temperature", "denominator")),
    "margin": ("SplitMarginLoss", ("balance", "margin", "aggregation")),
}


def loss_snippet(study: Study, trial: FrozenTrial) -> str:
    """The loss with a trial's setting, and the rest of it as variables; empty if the study does
    not say which loss it is about."""
    described = _described(study)
    loss = str(described.get("loss"))
    if loss not in _LOSSES or not isinstance(described.get("space"), dict):
        return ""
    setting = known_setting(study, trial)
    name, parameters = _LOSSES[loss]
    arguments = ", ".join(f"{p}={setting[p]!r}" for p in parameters if p in setting)
    # Studies of others may have hyper-parameters of any name.
    others = (p for p in setting if p not in parameters and p.isidentifier())
    rest = [f"{p} = {setting[p]!r}" for p in others]
    return "\n".join(
        [
            f"from cbal_optuna import {name}",
            "",
            *rest,
            f"criterion = {name}({arguments})",
            "loss = criterion(embeddings, labels)  # embeddings (n, d), labels (n,)",
            "",
        ]
    )


def known_setting(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """All hyper-parameters of a trial, as far as the study says what is not searched."""
    space = _described(study).get("space")
    return {**(space if isinstance(space, dict) else {}), **trial.params}


def _described(study: Study) -> dict[str, Any]:
    objective = study.user_attrs.get(OBJECTIVE)
    return objective if isinstance(objective, dict) else {}
