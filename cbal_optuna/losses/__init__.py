"""Contrastive losses as two numbers, a positive and an entropy term, and their balance."""

from cbal_optuna.losses.infonce import SplitInfoNCELoss
from cbal_optuna.losses.margin import SplitMarginLoss
from cbal_optuna.losses.memory import CrossBatchMemory
from cbal_optuna.losses.split import SplitLoss
from cbal_optuna.losses.split import SplitTerms


__all__ = [
    "CrossBatchMemory",
    "SplitInfoNCELoss",
    "SplitLoss",
    "SplitMarginLoss",
    "SplitTerms",
]
