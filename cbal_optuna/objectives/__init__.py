"""What a trial does: train an embedding with a setting and say how good it is."""

from __future__ import annotations

from cbal_optuna.objectives.carrying import carry_over
from cbal_optuna.objectives.retrieval import InfeasibleSettingError
from cbal_optuna.objectives.retrieval import Outcome
from cbal_optuna.objectives.retrieval import RetrievalObjective
from cbal_optuna.objectives.search_space import BATCH_SIZES
from cbal_optuna.objectives.search_space import LOSSES
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.search_space import Setting


__all__ = [
    "BATCH_SIZES",
    "InfeasibleSettingError",
    "LOSSES",
    "Outcome",
    "RetrievalObjective",
    "SearchSpace",
    "Setting",
    "carry_over",
]
