"""What a script in ``studies/`` says about itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import ClassVar

from cbal_optuna.command_line.argument_types import positive
from cbal_optuna.data import LabelledImages
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import SelfSupervisedObjective
from cbal_optuna.objectives import SelfSupervisedSpace
from cbal_optuna.training import Augmentation
from cbal_optuna.training import RANDOM
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import ViewAugmentation


Group = argparse._ArgumentGroup


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
            action=argparse.BooleanOptionalAction,
            default=False,
            help="freeze the backbone: extract its features once, train the linear head alone",
        )
        training.add_argument(
            "--images-per-class",
            type=positive,
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
        training.add_argument(
            "--gallery-images",
            type=positive,
            metavar="N",
            help="labelled training images among which the held-out ones are classified in "
            "trials, with the same share of each class; fewer make short trials faster, and "
            "accuracies lower (default: all)",
        )
        model.set_defaults(backbone="resnet18", weights=RANDOM)
        training.set_defaults(samples=1_000_000)

    def own_arguments(
        self, options: argparse.Namespace, training: TrainingOptions
    ) -> dict[str, Any]:
        return {
            "small_stem": options.small_stem,
            "gallery_images": options.gallery_images,
            # An evaluation embeds all images of the gallery.
            "training": replace(training, n_evaluations=2),
        }
