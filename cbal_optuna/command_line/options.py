"""The options that all scripts in ``studies/`` have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cbal_optuna.command_line.argument_types import assignment
from cbal_optuna.command_line.argument_types import micro_batch
from cbal_optuna.command_line.argument_types import natural
from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.argument_types import place
from cbal_optuna.command_line.argument_types import positive
from cbal_optuna.command_line.argument_types import positive_float
from cbal_optuna.command_line.argument_types import seed
from cbal_optuna.command_line.argument_types import study_name
from cbal_optuna.command_line.parser import Assignments
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.command_line.scripts import Group
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.named_samplers import SAMPLERS
from cbal_optuna.objectives import LOSSES
from cbal_optuna.training import AUTO
from cbal_optuna.training import BATCH_NORM_MODES
from cbal_optuna.training import LEARNING_RATE_RULES
from cbal_optuna.training import PRETRAINED
from cbal_optuna.training import WHOLE


FINAL_SEEDS = 5


def parser_of(script: StudyScript, kind: type[Parser] = Parser) -> Parser:
    parser = kind(
        description=script.description,
        epilog="Running the same command again resumes the study, or shows its result. Options "
        "may be kept in a file too: studies/run.py.",
    )
    script.add_arguments(parser)
    _add_search_options(parser.add_argument_group("search"), script.space().batch_sizes)
    _add_result_options(
        parser.add_argument_group("results"), script.name, script.objective.held_out
    )
    model, training = (parser.add_argument_group(name) for name in ("model", "training"))
    _add_model_options(model)
    _add_training_options(training)
    script.add_own_options(model, training)
    parser.set_defaults(**script.defaults)
    return parser


def _add_search_options(group: Group, batch_sizes: Sequence[int]) -> None:
    group.add_argument(
        "--n-trials",
        type=positive,
        default=30,
        metavar="N",
        help="trials of the study in all, those of earlier runs included (default: %(default)s)",
    )
    group.add_argument(
        "--timeout", type=positive, metavar="S", help="begin no trial after so many seconds"
    )
    group.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes that share the study, on all CUDA devices of this machine in turn; the "
        "same command on another machine, with a --storage that both reach, joins them, for "
        "--n-trials in all; which settings are tried then depends on who is done first (default: "
        "this process alone, which shares the study with nobody)",
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run the workers as tasks of the Ray cluster there, or, with 'local', of one that is "
        "started on this machine; its GPUs are shared out",
    )
    group.add_argument(
        "--stop-when-converged",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="stop before --n-trials once further trials are expected to gain next to nothing",
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="cd",
        help="cd is coordinate descent; the others are Optuna's (default: %(default)s)",
    )
    group.add_argument(
        "--sampler-options",
        type=assignment,
        nargs="+",
        action=Assignments,
        default={},
        metavar="NAME=VALUE",
        help="arguments of the sampler, as line_search=parabolic or initial_step=0.5 of cd",
    )
    group.add_argument(
        "--start-from",
        metavar="STUDY",
        help="start from the setting that another study of --storage recommends (default: the "
        "usual setting, or one fit for the loss)",
    )
    group.add_argument("--loss", choices=LOSSES, default="infonce", help="(default: %(default)s)")
    group.add_argument(
        "--batch-sizes",
        type=positive,
        nargs="+",
        default=batch_sizes,
        metavar="N",
        help=f"batch sizes to choose from (default: {_listed(batch_sizes)})",
    )
    group.add_argument(
        "--space",
        type=assignment,
        nargs="+",
        action=Assignments,
        default={},
        metavar="NAME=VALUE",
        help="what is searched of a hyper-parameter: an interval, as 'balance={low: 0.5, high: "
        "32, log: true}', a list to choose from, as 'temperature=[0.1, 0.2]', or a fixed value; "
        "it holds over --batch-sizes, --learning-rate and --weight-decay (default: that of the "
        "loss)",
    )
    group.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="of the search and of its trainings (default: %(default)s)",
    )


def _add_result_options(group: Group, name: str, held_out: str) -> None:
    group.add_argument(
        "--storage",
        type=place,
        default=f"sqlite:///{name}.db",
        metavar="URL",
        help="database of the study, as SQLAlchemy names it, or grpc://HOST:PORT of its proxy "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--study-name",
        type=study_name,
        metavar="NAME",
        help=f"(default: {name}, followed by -LOSS and -SAMPLER where they are not the default)",
    )
    group.add_argument(
        "--report", type=path, metavar="FILE.html", help="(default: the study's name .html)"
    )
    group.add_argument(
        "--confirm",
        type=natural,
        default=5,
        metavar="N",
        help="fresh seeds with which the usual and the best setting are trained again to tell "
        "the gain from luck; 0 for none (default: %(default)s)",
    )
    group.add_argument(
        "--final",
        action=argparse.BooleanOptionalAction,
        default=False,
        help=f"train both on all training and validation {held_out} with {FINAL_SEEDS} fresh "
        f"seeds and evaluate them on the test {held_out}",
    )
    group.add_argument(
        "--export",
        type=path,
        metavar="DIR",
        help=f"train the recommended setting on all training and validation {held_out} and write "
        "the model there, as timm loads it; an earlier export is replaced",
    )


def _add_model_options(group: Group) -> None:
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


def _add_training_options(group: Group) -> None:
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
        type=positive_float,
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


def _listed(values: Sequence[object]) -> str:
    return " ".join(map(str, values))
