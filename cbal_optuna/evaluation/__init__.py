"""How good an embedding is: retrieval, clustering, classification by neighbours or linearly, and
whether it has collapsed."""

from cbal_optuna.evaluation.clustering import normalized_mutual_information
from cbal_optuna.evaluation.collapse import embedding_spread
from cbal_optuna.evaluation.collapse import EmbeddingSpread
from cbal_optuna.evaluation.knn import knn_accuracy
from cbal_optuna.evaluation.linear_probe import linear_probe_accuracy
from cbal_optuna.evaluation.retrieval import retrieval_metrics
from cbal_optuna.evaluation.retrieval import RetrievalMetrics
from cbal_optuna.evaluation.retrieval import unit_embeddings


__all__ = [
    "EmbeddingSpread",
    "RetrievalMetrics",
    "embedding_spread",
    "knn_accuracy",
    "linear_probe_accuracy",
    "normalized_mutual_information",
    "retrieval_metrics",
    "unit_embeddings",
]
