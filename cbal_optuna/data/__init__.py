"""Labelled image collections, their splits into training, validation and test, and batches."""

from __future__ import annotations

from cbal_optuna.data.array_cache import cached_array
from cbal_optuna.data.array_cache import default_cache_directory
from cbal_optuna.data.batch_sampler import MPerClassBatchSampler
from cbal_optuna.data.batch_sampler import ViewBatchSampler
from cbal_optuna.data.cars196 import Cars196
from cbal_optuna.data.cifar import CIFAR10
from cbal_optuna.data.cifar import CIFAR100
from cbal_optuna.data.cub200 import CUB200
from cbal_optuna.data.decoding import central_square
from cbal_optuna.data.decoding import decode_into
from cbal_optuna.data.decoding import decoded
from cbal_optuna.data.digits import Digits
from cbal_optuna.data.image_folder import ImageFolder
from cbal_optuna.data.images import BrokenImageError
from cbal_optuna.data.images import LabelledImages
from cbal_optuna.data.images import UNLABELLED
from cbal_optuna.data.inshop import InShop
from cbal_optuna.data.omniglot import Omniglot
from cbal_optuna.data.sop import StanfordOnlineProducts
from cbal_optuna.data.splits import class_splits
from cbal_optuna.data.splits import ClassSplit
from cbal_optuna.data.splits import drawn_from_classes
from cbal_optuna.data.splits import image_splits
from cbal_optuna.data.splits import ImageSplit
from cbal_optuna.data.splits import indices_of
from cbal_optuna.data.stl10 import STL10


__all__ = [
    "BrokenImageError",
    "CIFAR10",
    "CIFAR100",
    "CUB200",
    "Cars196",
    "ClassSplit",
    "Digits",
    "ImageFolder",
    "ImageSplit",
    "InShop",
    "LabelledImages",
    "MPerClassBatchSampler",
    "Omniglot",
    "STL10",
    "StanfordOnlineProducts",
    "UNLABELLED",
    "ViewBatchSampler",
    "cached_array",
    "central_square",
    "class_splits",
    "decode_into",
    "decoded",
    "default_cache_directory",
    "drawn_from_classes",
    "image_splits",
    "indices_of",
]
