"""The options that say what model is trained, and how."""

from __future__ import annotations

import argparse

from cbal_optuna.command_line.argument_types import micro_batch
from cbal_optuna.command_line.argument_types import natural_float
from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.argument_types import positive
from cbal_optuna.command_line.argument_types import positive_float
from cbal_optuna.command_line.scripts import Group
from cbal_optuna.training import AUTO
from cbal_optuna.training import BATCH_NORM_MODES
from cbal_optuna.training import LEARNING_RATE_RULES
from cbal_optuna.training import PRETRAINED
from cbal_optuna.training import WHOLE


def add_model_options(group: Group) -> None:
    group.add_argument(
        "--backbone",
        default="resnet50",
        metavar="NAME",
        help="any model that timm knows (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        default=PRETRAINED,
        metavar="FILE",
        help="safetensors file or checkpoint of tensors; 'pretrained' for timm's own; 'random' "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--image-size",
        type=positive,
        metavar="PX",
        help="side of the square images (default: what the backbone was made for)",
    )
    group.add_argument(
        "--embedding-dim", type=positive, default=128, metavar="N", help="(default: %(default)s)"
    )
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    group.add_argument(
        "--cache-dir",
        type=path,
        metavar="DIR",
        help="keeps decoded images and features (default: $CBAL_CACHE, or cbal_optuna in "
        "$XDG_CACHE_HOME or ~/.cache)",
    )
    group.add_argument(
        "--cache-images",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep decoded images there; else they are decoded each time, by threads, while the "
        "batch before trains: for data whose decoded images have no room on a disk",
    )


def add_training_options(group: Group) -> None:
    group.add_argument(
        "--samples",
        type=positive,
        default=40_000,
        metavar="N",
        help="budget of a training, in images seen (default: %(default)s)",
    )
    group.add_argument(
        "--repeats",
        type=positive,
        default=1,
        metavar="N",
        help="trainings per trial, with different seeds (default: %(default)s)",
    )
    group.add_argument(
        "--folds",
        type=positive,
        default=1,
        metavar="K",
        help="disjoint validation sets, each trained for (default: %(default)s)",
    )
    group.add_argument(
        "--prune",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="end a trial before its last fold or repeat once it is clearly worse than the best "
        "one; it is given the value that it would have come to",
    )
    group.add_argument(
        "--learning-rate",
        type=positive_float,
        metavar="LR",
        help="(default: 1e-4 where weights that are there already are trained, else 1e-3)",
    )
    group.add_argument(
        "--learning-rate-rule",
        choices=LEARNING_RATE_RULES,
        default="none",
        help="how it follows the batch size, from 128 on (default: %(default)s)",
    )
    group.add_argument(
        "--weight-decay",
        type=natural_float,
        default=1e-4,
        metavar="WD",
        help="(default: %(default)s)",
    )
    group.add_argument(
        "--micro-batch",
        type=micro_batch,
        default=AUTO,
        metavar="N",
        help="images that go through the model at once; the gradient stays that of the whole "
        f"batch: a number, {WHOLE!r}, or {AUTO!r} for as much of the batch as fits into memory "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--batch-norm",
        choices=BATCH_NORM_MODES,
        help="frozen: BatchNorm keeps the statistics that came with the weights, and results do "
        "not depend on --micro-batch; synchronised: its statistics are those of all processes of "
        "torchrun (default: frozen where weights that are there already are trained, else train)",
    )
    group.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="train the model as torch.compile makes it, which takes a minute or so for each "
        "batch size and pays after thousands of steps with it, or never: docs/measurements.rst",
    )
    group.add_argument(
        "--checkpoint-dir",
        type=path,
        metavar="DIR",
        help="keeps trainings in progress; where machines come and go, a folder that they share "
        "(default: checkpoints in that of --cache-dir)",
    )
    group.add_argument(
        "--checkpoint-every",
        type=positive_float,
        default=60.0,
        metavar="S",
        help="seconds of a training after which its state is written, so that it goes on from "
        "there if it is cut off (default: %(default)g)",
    )
