"""What a trial does: train an embedding with a setting and say how good it is."""

from __future__ import annotations

from cbal_optuna.objectives.carrying import carry_over
from cbal_optuna.objectives.infeasible import InfeasibleSettingError
from cbal_optuna.objectives.objective import CURVE
from cbal_optuna.objectives.objective import Objective
from cbal_optuna.objectives.objective import versions
from cbal_optuna.objectives.outcome import attributes_of
from cbal_optuna.objectives.outcome import Outcome
from cbal_optuna.objectives.retrieval import RetrievalObjective
from cbal_optuna.objectives.retrieval import RetrievalOutcome
from cbal_optuna.objectives.search_space import BATCH_SIZES
from cbal_optuna.objectives.search_space import LOSSES
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.objectives.search_space import SelfSupervisedSpace
from cbal_optuna.objectives.search_space import Setting
from cbal_optuna.objectives.self_supervised import SelfSupervisedObjective
from cbal_optuna.objectives.self_supervised import SelfSupervisedOutcome
from cbal_optuna.objectives.trainings import TEST
from cbal_optuna.objectives.trainings import VALIDATION


__all__ = [
    "BATCH_SIZES",
    "CURVE",
    "InfeasibleSettingError",
    "LOSSES",
    "Objective",
    "Outcome",
    "RetrievalObjective",
    "RetrievalOutcome",
    "SearchSpace",
    "SelfSupervisedObjective",
    "SelfSupervisedOutcome",
    "SelfSupervisedSpace",
    "Setting",
    "TEST",
    "VALIDATION",
    "attributes_of",
    "carry_over",
    "versions",
]
