"""Python code that uses the setting of a trial."""

from __future__ import annotations

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
    objective = study.user_attrs.get(OBJECTIVE)
    described = objective if isinstance(objective, dict) else {}
    space = described.get("space")
    loss = str(described.get("loss"))
    if loss not in _LOSSES or not isinstance(space, dict):
        return ""
    setting = {**space, **trial.params}
    name, parameters = _LOSSES[loss]
    arguments = ", ".join(f"{p}={setting[p]!r}" for p in parameters if p in setting)
    rest = [f"{p} = {value!r}" for p, value in setting.items() if p not in parameters]
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
