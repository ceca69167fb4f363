"""Pictures of embeddings: maps in the plane, and queries with what they find."""

from __future__ import annotations

from cbal_optuna.pictures.drawing import COLOURS
from cbal_optuna.pictures.drawing import drawn_map
from cbal_optuna.pictures.drawing import drawn_sheet
from cbal_optuna.pictures.drawing import RIGHT
from cbal_optuna.pictures.drawing import WRONG
from cbal_optuna.pictures.embedded import Embedded
from cbal_optuna.pictures.embedding_map import EmbeddingMap
from cbal_optuna.pictures.pictures import Pictures
from cbal_optuna.pictures.pictures import pictures_of
from cbal_optuna.pictures.retrieval_sheet import Found
from cbal_optuna.pictures.retrieval_sheet import Search


__all__ = [
    "COLOURS",
    "Embedded",
    "EmbeddingMap",
    "Found",
    "Pictures",
    "RIGHT",
    "Search",
    "WRONG",
    "drawn_map",
    "drawn_sheet",
    "pictures_of",
]
