"""How good an embedding is: retrieval metrics and clustering."""

from cbal_optuna.evaluation.clustering import normalized_mutual_information
from cbal_optuna.evaluation.retrieval import retrieval_metrics
from cbal_optuna.evaluation.retrieval import RetrievalMetrics


__all__ = [
    "RetrievalMetrics",
    "normalized_mutual_information",
    "retrieval_metrics",
]
