"""Labelled image collections, class-disjoint splits and batches of m images per class."""

from __future__ import annotations

from cbal_optuna.data.array_cache import cached_array
from cbal_optuna.data.array_cache import default_cache_directory
from cbal_optuna.data.batch_sampler import MPerClassBatchSampler
from cbal_optuna.data.cars196 import Cars196
from cbal_optuna.data.cub200 import CUB200
from cbal_optuna.data.decoding import decode_into
from cbal_optuna.data.digits import Digits
from cbal_optuna.data.image_folder import ImageFolder
from cbal_optuna.data.images import BrokenImageError
from cbal_optuna.data.images import LabelledImages
from cbal_optuna.data.inshop import InShop
from cbal_optuna.data.omniglot import Omniglot
from cbal_optuna.data.sop import StanfordOnlineProducts
from cbal_optuna.data.splits import class_splits
from cbal_optuna.data.splits import ClassSplit
from cbal_optuna.data.splits import indices_of


__all__ = [
    "BrokenImageError",
    "CUB200",
    "Cars196",
    "ClassSplit",
    "Digits",
    "ImageFolder",
    "InShop",
    "LabelledImages",
    "MPerClassBatchSampler",
    "Omniglot",
    "StanfordOnlineProducts",
    "cached_array",
    "class_splits",
    "decode_into",
    "default_cache_directory",
    "indices_of",
]
