"""Balance contrastive losses in few trainings.

The public names are imported when they are first used, so that the sampler does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from typing import TYPE_CHECKING

from cbal_optuna.version import __version__


if TYPE_CHECKING:
    from cbal_optuna.convergence import StopWhenConverged
    from cbal_optuna.losses import CrossBatchMemory
    from cbal_optuna.losses import SplitInfoNCELoss
    from cbal_optuna.losses import SplitMarginLoss
    from cbal_optuna.losses import SplitTerms
    from cbal_optuna.objectives import carry_over
    from cbal_optuna.objectives import RetrievalObjective
    from cbal_optuna.objectives import SearchSpace
    from cbal_optuna.objectives import SelfSupervisedObjective
    from cbal_optuna.objectives import SelfSupervisedSpace
    from cbal_optuna.sampler import CoordinateDescentSampler
    from cbal_optuna.summary import summarize
    from cbal_optuna.training import cached_forward

_MODULES = {
    "CoordinateDescentSampler": "sampler",
    "CrossBatchMemory": "losses",
    "RetrievalObjective": "objectives",
    "SearchSpace": "objectives",
    "SelfSupervisedObjective": "objectives",
    "SelfSupervisedSpace": "objectives",
    "SplitInfoNCELoss": "losses",
    "SplitMarginLoss": "losses",
    "SplitTerms": "losses",
    "StopWhenConverged": "convergence",
    "cached_forward": "training",
    "carry_over": "objectives",
    "summarize": "summary",
}

__all__ = [
    "CoordinateDescentSampler",
    "CrossBatchMemory",
    "RetrievalObjective",
    "SearchSpace",
    "SelfSupervisedObjective",
    "SelfSupervisedSpace",
    "SplitInfoNCELoss",
    "SplitMarginLoss",
    "SplitTerms",
    "StopWhenConverged",
    "__version__",
    "cached_forward",
    "carry_over",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
