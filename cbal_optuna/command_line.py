"""The command line that all scripts in ``studies/`` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
import os
from pathlib import Path
import sys
from typing import Any
from typing import ClassVar
from typing import NoReturn
from typing import TypeVar
import warnings

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage

from cbal_optuna.convergence import StopWhenConverged
from cbal_optuna.data import default_cache_directory
from cbal_optuna.data import LabelledImages
from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.objectives import InfeasibleSettingError
from cbal_optuna.objectives import LOSSES
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import SelfSupervisedObjective
from cbal_optuna.objectives import SelfSupervisedSpace
from cbal_optuna.objectives import Setting
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.report import result_text
from cbal_optuna.report import write_report
from cbal_optuna.retraining import compare_settings
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import masked
from cbal_optuna.storage import open_storage
from cbal_optuna.study import check_study
from cbal_optuna.study import FailingTrialsError
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study import run_usual
from cbal_optuna.study import SAMPLERS
from cbal_optuna.summary import summarize
from cbal_optuna.training import Augmentation
from cbal_optuna.training import AUTO
from cbal_optuna.training import BATCH_NORM_MODES
from cbal_optuna.training import LEARNING_RATE_RULES
from cbal_optuna.training import PRETRAINED
from cbal_optuna.training import RANDOM
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import ViewAugmentation
from cbal_optuna.training import WHOLE


FINAL_SEEDS = 5

Group = argparse._ArgumentGroup
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class StudyScript:
    """What a script in ``studies/`` says about its data set; its objective is retrieval.

    Args:
        name:
            Of the study and its files, if the command line names none.
        description:
            The first words of ``--help``.
        dataset:
            From the parsed command line to the images.
        add_arguments:
            Adds the arguments that ``dataset`` needs.
        defaults:
            Of options, by name, where they differ from those of the other scripts.
        augmentation, test_share:
            As for the objective.
    """

    objective: ClassVar[type[RetrievalObjective] | type[SelfSupervisedObjective]] = (
        RetrievalObjective
    )
    space: ClassVar[type[SearchSpace]] = SearchSpace

    name: str
    description: str
    dataset: Callable[[argparse.Namespace], LabelledImages]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Augmentation | ViewAugmentation | None = None
    test_share: float | None = None

    def add_own_options(self, model: Group, training: Group) -> None:
        """Those that other objectives do not have."""
        model.add_argument(
            "--head-only",
            action="store_true",
            help="freeze the backbone: extract its features once, train the linear head alone",
        )
        training.add_argument(
            "--images-per-class",
            type=_positive,
            default=4,
            metavar="M",
            help="images of a class that come into a batch together (default: %(default)s)",
        )

    def own_arguments(
        self, options: argparse.Namespace, training: TrainingOptions
    ) -> dict[str, Any]:
        """Arguments of the objective that others do not have."""
        return {
            "head_only": options.head_only,
            "training": replace(training, images_per_class=options.images_per_class),
        }


@dataclass(frozen=True)
class SelfSupervisedScript(StudyScript):
    """The same for self-supervised learning, from random weights unless others are asked for."""

    objective = SelfSupervisedObjective
    space = SelfSupervisedSpace

    def add_own_options(self, model: Group, training: Group) -> None:
        model.add_argument(
            "--small-stem",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="a first convolution that keeps the resolution, for images of 32 to 64 pixels",
        )
        model.set_defaults(backbone="resnet18", weights=RANDOM)
        training.set_defaults(samples=1_000_000)

    def own_arguments(
        self, options: argparse.Namespace, training: TrainingOptions
    ) -> dict[str, Any]:
        # An evaluation embeds all training images.
        return {"small_stem": options.small_stem, "training": replace(training, n_evaluations=2)}


def main(script: StudyScript, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a study as its command line says, and exit: with status 2 if the input is wrong."""
    parser = _parser(script)
    options = parser.parse_args(arguments)
    _fill_in_names(options, script.name)
    interruption = Interruption()
    warnings.formatwarning = _warning_without_code
    # Optuna warns of each failed trial, with a traceback; the progress bar says it in one line.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        exists = _check_places(options)
        objective = _objective(script, options, interruption)
        if exists:
            _check_studies(options, objective)
        objective.prepare()
        storage = open_storage(options.storage)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except Interrupted as interrupted:
        parser.exit(128 + interrupted.number, "\nInterrupted. No study was touched.\n")
    interruption.defer()
    try:
        status = _run(options, objective, storage, interruption)
    except Interrupted as interrupted:
        parser.exit(
            128 + interrupted.number,
            "\nInterrupted. The study is kept; the same command resumes it.\n",
        )
    except (FailingTrialsError, InfeasibleSettingError, OptunaError, OSError) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    parser.exit(status)


def _fill_in_names(options: argparse.Namespace, name: str) -> None:
    """The defaults that depend on other options."""
    if options.study_name is None:
        loss = "" if options.loss == "infonce" else f"-{options.loss}"
        sampler = "" if options.sampler == "cd" else f"-{options.sampler}"
        options.study_name = f"{name}{loss}{sampler}"
    if options.report is None:
        options.report = Path(f"{options.study_name}.html")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, without the usage."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _warning_without_code(
    message: Warning | str, category: object, filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {message}\n"


def _objective(
    script: StudyScript, options: argparse.Namespace, interruption: Interruption
) -> Objective[Outcome]:
    batch_sizes = sorted(set(options.batch_sizes))
    space = script.space(
        options.loss,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        batch_size=CategoricalDistribution(batch_sizes)
        if len(batch_sizes) > 1
        else batch_sizes[0],
    )
    training = TrainingOptions(
        samples=options.samples,
        learning_rate_rule=options.learning_rate_rule,
        micro_batch=options.micro_batch,
        batch_norm=options.batch_norm,
    )
    own: dict[str, Any] = {"augmentation": script.augmentation, "test_share": script.test_share}
    return script.objective(
        script.dataset(options),
        backbone=options.backbone,
        weights=options.weights,
        image_size=options.image_size,
        embedding_dim=options.embedding_dim,
        loss=options.loss,
        space=space,
        repeats=options.repeats,
        folds=options.folds,
        device=options.device,
        seed=options.seed,
        cache_directory=options.cache_dir,
        on_step=interruption.check,
        **script.own_arguments(options, training),
        **{name: value for name, value in own.items() if value is not None},
    )


def _check_places(options: argparse.Namespace) -> bool:
    """See that report and storage can be written to, before anything is, and whether the storage
    exists.

    Raises:
        ValueError: One of them cannot.
    """
    report = options.report.resolve()
    if report.is_dir() or not report.parent.is_dir() or not os.access(report.parent, os.W_OK):
        raise ValueError(
            f"`--report` is {str(options.report)!r}; it should be a file in a folder that exists "
            "and can be written to."
        )
    if report.exists() and report.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"`--report` is {str(options.report)!r}, a file that is there and no .html file; it "
            "should be another one."
        )
    if options.storage.endswith(options.report.name):
        raise ValueError(f"`--report` {options.report} is the file of `--storage`.")
    return check_storage(options.storage)


def _check_studies(options: argparse.Namespace, objective: Objective[Outcome]) -> None:
    """See that the studies of these names, if there are, are of this objective.

    Raises:
        ValueError: One of them is not.
    """
    storage = open_storage(options.storage)
    existing = optuna.get_all_study_names(storage)
    for fresh_seeds in ("", VALIDATION, TEST):
        name = ".".join(filter(None, (options.study_name, fresh_seeds)))
        if name in existing:
            check_study(
                optuna.load_study(study_name=name, storage=storage), objective, fresh_seeds
            )


def _run(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    storage: RDBStorage,
    interruption: Interruption,
) -> int:
    """Run the study and show its result; gives the exit status."""
    study = open_study(options.study_name, storage, objective, options.sampler, options.seed)
    print(f"{study.study_name}: {options.n_trials} trials, stored in {masked(options.storage)}")
    comparisons: list[SettingComparison] = []
    try:
        between = interruption.check
        callbacks = [StopWhenConverged()] if options.stop_when_converged else []
        run_trials(
            study,
            objective,
            options.n_trials,
            options.timeout,
            between=between,
            callbacks=callbacks,
        )
        if options.timeout is None:
            run_usual(study, objective, between=between)
        comparisons.extend(_comparisons(options, objective, study, storage))
    finally:
        print(f"\n{result_text(study, comparisons)}\n")
        write_report(options.report, study, comparisons)
        print(_next_commands(options))
    return 0 if _best_params(study) else 1


def _best_params(study: optuna.Study) -> Setting:
    """Those of the best trial; none if no trial has a feasible value."""
    try:
        return summarize(study).recommended.params
    except ValueError:
        return {}


def _comparisons(
    options: argparse.Namespace,
    objective: Objective[Outcome],
    study: optuna.Study,
    storage: RDBStorage,
) -> Iterator[SettingComparison]:
    usual, best = objective.space.searched(objective.space.usual), _best_params(study)
    wanted = {VALIDATION: options.confirm, TEST: FINAL_SEEDS if options.final else 0}
    if best == usual:
        # Its test result is still asked for.
        del wanted[VALIDATION]
    for part, n_seeds in wanted.items():
        if n_seeds and best:
            yield compare_settings(
                objective, storage, study.study_name, usual, best, part=part, n_seeds=n_seeds
            )


def _next_commands(options: argparse.Namespace) -> str:
    return (
        f"Report: {options.report}\n"
        f"Dashboard: optuna-dashboard {masked(options.storage)}"
        '    (pip install ".[dashboard]")'
    )


def _parser(script: StudyScript) -> argparse.ArgumentParser:
    parser = _Parser(
        description=script.description,
        epilog="Running the same command again resumes the study, or shows its result.",
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
        type=_positive,
        default=30,
        metavar="N",
        help="trials of the study in all, those of earlier runs included (default: %(default)s)",
    )
    group.add_argument(
        "--timeout", type=_positive, metavar="S", help="begin no trial after so many seconds"
    )
    group.add_argument(
        "--stop-when-converged",
        action="store_true",
        help="stop before --n-trials once further trials are expected to gain next to nothing",
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="cd",
        help="cd is coordinate descent; the others are Optuna's (default: %(default)s)",
    )
    group.add_argument("--loss", choices=LOSSES, default="infonce", help="(default: %(default)s)")
    group.add_argument(
        "--batch-sizes",
        type=_positive,
        nargs="+",
        default=batch_sizes,
        metavar="N",
        help=f"batch sizes to choose from (default: {_listed(batch_sizes)})",
    )
    group.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="of the search and of its trainings (default: %(default)s)",
    )


def _add_result_options(group: Group, name: str, held_out: str) -> None:
    group.add_argument(
        "--storage",
        default=f"sqlite:///{name}.db",
        metavar="URL",
        help="database of the study, as SQLAlchemy names it (default: %(default)s)",
    )
    group.add_argument(
        "--study-name",
        type=_name,
        metavar="NAME",
        help=f"(default: {name}, followed by -LOSS and -SAMPLER where they are not the default)",
    )
    group.add_argument(
        "--report", type=Path, metavar="FILE.html", help="(default: the study's name .html)"
    )
    group.add_argument(
        "--confirm",
        type=_natural,
        default=5,
        metavar="N",
        help="fresh seeds with which the usual and the best setting are trained again to tell "
        "the gain from luck; 0 for none (default: %(default)s)",
    )
    group.add_argument(
        "--final",
        action="store_true",
        help=f"train both on all training and validation {held_out} with {FINAL_SEEDS} fresh "
        f"seeds and evaluate them on the test {held_out}",
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
        type=_positive,
        metavar="PX",
        help="side of the square images (default: what the backbone was made for)",
    )
    group.add_argument(
        "--embedding-dim", type=_positive, default=128, metavar="N", help="(default: %(default)s)"
    )
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    group.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="keeps decoded images and features (default: $CBAL_CACHE or "
        f"{default_cache_directory()})",
    )


def _add_training_options(group: Group) -> None:
    group.add_argument(
        "--samples",
        type=_positive,
        default=40_000,
        metavar="N",
        help="budget of a training, in images seen (default: %(default)s)",
    )
    group.add_argument(
        "--repeats",
        type=_positive,
        default=1,
        metavar="N",
        help="trainings per trial, with different seeds (default: %(default)s)",
    )
    group.add_argument(
        "--folds",
        type=_positive,
        default=1,
        metavar="K",
        help="disjoint validation sets, each trained for (default: %(default)s)",
    )
    group.add_argument(
        "--learning-rate",
        type=_positive_float,
        default=1e-3,
        metavar="LR",
        help="(default: %(default)s)",
    )
    group.add_argument(
        "--learning-rate-rule",
        choices=LEARNING_RATE_RULES,
        default="none",
        help="how it follows the batch size, from 128 on (default: %(default)s)",
    )
    group.add_argument(
        "--weight-decay",
        type=_positive_float,
        default=1e-4,
        metavar="WD",
        help="(default: %(default)s)",
    )
    group.add_argument(
        "--micro-batch",
        type=_micro_batch,
        default=AUTO,
        metavar="N",
        help="images that go through the model at once; the gradient stays that of the whole "
        f"batch: a number, {WHOLE!r}, or {AUTO!r} for as much of the batch as fits into memory "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--batch-norm",
        choices=BATCH_NORM_MODES,
        default="train",
        help="frozen: BatchNorm keeps the statistics that came with the weights, and results do "
        "not depend on --micro-batch (default: %(default)s)",
    )


def _positive(text: str) -> int:
    return _number(int, text, 1, "a whole number of at least 1")


def _natural(text: str) -> int:
    return _number(int, text, 0, "a whole number of at least 0")


def _micro_batch(text: str) -> int | str:
    if text in (AUTO, WHOLE):
        return text
    return _number(int, text, 1, f"{AUTO!r}, {WHOLE!r} or a whole number of at least 1")


def _seed(text: str) -> int:
    return _number(int, text, 0, "a whole number from 0 to 2147483647", 2**31 - 1)


def _name(text: str) -> str:
    """A name that can also be that of a file."""
    if not text.strip(" .") or not text.isprintable() or "/" in text or len(text) > 200:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name of 1 to 200 printable characters without '/'"
        )
    return text


def _positive_float(text: str) -> float:
    return _number(float, text, sys.float_info.min, "a positive number")


def _number(
    kind: type[Number], text: str, low: float, allowed: str, high: float = sys.float_info.max
) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
    return value


def _listed(values: Sequence[object]) -> str:
    return " ".join(map(str, values))
