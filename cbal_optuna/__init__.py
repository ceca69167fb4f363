"""Balance contrastive losses in few trainings."""

from __future__ import annotations

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.losses import SplitTerms
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.sampler import CoordinateDescentSampler
from cbal_optuna.summary import summarize
from cbal_optuna.version import __version__


__all__ = [
    "CoordinateDescentSampler",
    "RetrievalObjective",
    "SearchSpace",
    "SplitInfoNCELoss",
    "SplitMarginLoss",
    "SplitTerms",
    "__version__",
    "summarize",
]
