"""The options that all scripts in ``studies/`` have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cbal_optuna.command_line.argument_types import assignment
from cbal_optuna.command_line.argument_types import natural
from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.argument_types import place
from cbal_optuna.command_line.argument_types import positive
from cbal_optuna.command_line.argument_types import seed
from cbal_optuna.command_line.argument_types import study_name
from cbal_optuna.command_line.parser import Assignments
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.command_line.scripts import Group
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.command_line.training_options import add_model_options
from cbal_optuna.command_line.training_options import add_training_options
from cbal_optuna.named_samplers import SAMPLERS
from cbal_optuna.objectives import LOSSES


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
    add_model_options(model)
    add_training_options(training)
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


def _listed(values: Sequence[object]) -> str:
    return " ".join(map(str, values))
