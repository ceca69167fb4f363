"""timm models and how they are trained."""

from __future__ import annotations

from cbal_optuna.training.augmentation import Augmentation
from cbal_optuna.training.backbone import BackboneOptions
from cbal_optuna.training.backbone import PRETRAINED
from cbal_optuna.training.backbone import RANDOM
from cbal_optuna.training.backbone import small_stem
from cbal_optuna.training.checkpoint import Checkpoint
from cbal_optuna.training.checkpoint import Checkpoints
from cbal_optuna.training.compiling import check_compiler
from cbal_optuna.training.gradient_caching import BATCH_NORM_MODES
from cbal_optuna.training.gradient_caching import cached_forward
from cbal_optuna.training.gradient_caching import FROZEN
from cbal_optuna.training.gradient_caching import smallest_chunk
from cbal_optuna.training.gradient_caching import SYNCHRONISED
from cbal_optuna.training.loop import DivergedError
from cbal_optuna.training.loop import NotANumberError
from cbal_optuna.training.loop import train
from cbal_optuna.training.loop import TrainingRecord
from cbal_optuna.training.micro_batches import AUTO
from cbal_optuna.training.micro_batches import is_out_of_memory
from cbal_optuna.training.micro_batches import MicroBatches
from cbal_optuna.training.micro_batches import WHOLE
from cbal_optuna.training.model import EmbeddingModel
from cbal_optuna.training.model import MLP
from cbal_optuna.training.one_process import OneProcess
from cbal_optuna.training.options import LEARNING_RATE_RULES
from cbal_optuna.training.options import TrainingOptions
from cbal_optuna.training.phases import PHASES
from cbal_optuna.training.ranks import Ranks
from cbal_optuna.training.ranks import ranks_of_environment
from cbal_optuna.training.regimes import EndToEnd
from cbal_optuna.training.regimes import HeadOnly
from cbal_optuna.training.regimes import Regime
from cbal_optuna.training.views import ViewAugmentation


__all__ = [
    "AUTO",
    "Augmentation",
    "BATCH_NORM_MODES",
    "BackboneOptions",
    "Checkpoint",
    "Checkpoints",
    "DivergedError",
    "EmbeddingModel",
    "EndToEnd",
    "FROZEN",
    "HeadOnly",
    "LEARNING_RATE_RULES",
    "MLP",
    "MicroBatches",
    "NotANumberError",
    "OneProcess",
    "PHASES",
    "PRETRAINED",
    "RANDOM",
    "Ranks",
    "Regime",
    "SYNCHRONISED",
    "TrainingOptions",
    "TrainingRecord",
    "ViewAugmentation",
    "WHOLE",
    "cached_forward",
    "check_compiler",
    "is_out_of_memory",
    "ranks_of_environment",
    "small_stem",
    "smallest_chunk",
    "train",
]
