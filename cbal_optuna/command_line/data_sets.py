"""The studies of data sets that come with the package, by the name of their script."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cbal_optuna.command_line.argument_types import natural
from cbal_optuna.command_line.argument_types import path
from cbal_optuna.command_line.scripts import SelfSupervisedScript
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.data import Cars196
from cbal_optuna.data import CIFAR10
from cbal_optuna.data import CUB200
from cbal_optuna.data import Digits
from cbal_optuna.data import ImageFolder
from cbal_optuna.data import InShop
from cbal_optuna.data import Omniglot
from cbal_optuna.data import StanfordOnlineProducts
from cbal_optuna.training import Augmentation
from cbal_optuna.training import ViewAugmentation


# Digits and characters turn into others when mirrored.
_OF_SYMBOLS = Augmentation(min_area=0.6, rotation=15.0, flip=False)


def _root(
    holds: str, *, downloads: str | None = None
) -> Callable[[argparse.ArgumentParser], None]:
    """Adds the folder of a data set, and the option to get it there."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--root", type=path, required=True, metavar="DIR", help=f"folder with {holds}"
        )
        if downloads is not None:
            parser.add_argument(
                "--download",
                action=argparse.BooleanOptionalAction,
                default=False,
                help=f"get {downloads} into --root",
            )

    return add_arguments


def _add_class_folders(parser: argparse.ArgumentParser) -> None:
    _root("one sub-folder of images per class")(parser)
    parser.add_argument(
        "--class-depth",
        type=natural,
        default=1,
        metavar="N",
        help="depth of the class folders below --root: 2 for DIR/<group>/<class>, as in "
        "iNaturalist 2018 (default: %(default)s)",
    )


_SCRIPTS = (
    StudyScript(
        name="digits",
        description="Balance the contrastive loss on scikit-learn's handwritten digits: a first "
        "run, in minutes on a CPU.",
        dataset=lambda options: Digits(),
        defaults={
            "backbone": "test_convnext",
            "weights": "random",
            "image_size": 32,
            "embedding_dim": 64,
            "samples": 8_000,
            "learning_rate": 3e-3,
            "repeats": 2,
            "n_trials": 25,
        },
        augmentation=_OF_SYMBOLS,
        # Of ten classes, half would leave too few to train on: four are for training, three each
        # for validation and test.
        test_share=0.3,
    ),
    StudyScript(
        name="cub200",
        description="Balance the contrastive loss on the birds of CUB-200.",
        dataset=lambda options: CUB200(options.root, download=options.download),
        add_arguments=_root(
            "images.txt, image_class_labels.txt, classes.txt and images/, or the one around it",
            downloads="CUB-200-2011",
        ),
    ),
    StudyScript(
        name="cars196",
        description="Balance the contrastive loss on the cars of Cars-196.",
        dataset=lambda options: Cars196(options.root),
        add_arguments=_root(
            "car_ims and cars_annos.mat; with cars_train, cars_test, devkit and "
            "cars_test_annos_withlabels.mat; or with train and test, each with one folder per "
            "class"
        ),
    ),
    StudyScript(
        name="sop",
        description="Balance the contrastive loss on Stanford Online Products.",
        dataset=lambda options: StanfordOnlineProducts(options.root),
        add_arguments=_root("Ebay_train.txt, Ebay_test.txt and the images, or the one around it"),
        # Products have five images on average, some two. The budget is about three passes over
        # those that are trained on.
        defaults={"images_per_class": 2, "samples": 100_000},
    ),
    StudyScript(
        name="inshop",
        description="Balance the contrastive loss on In-Shop Clothes Retrieval.",
        dataset=lambda options: InShop(options.root),
        add_arguments=_root("Eval/list_eval_partition.txt and Img/img, or the one around it"),
        # Items have six images on average, many fewer than four.
        defaults={"images_per_class": 2},
    ),
    StudyScript(
        name="omniglot",
        description="Balance the contrastive loss on the handwritten characters of Omniglot.",
        dataset=lambda options: Omniglot(options.root, download=options.download),
        add_arguments=_root(
            "images_background and images_evaluation, or the one around it", downloads="Omniglot"
        ),
        defaults={
            "backbone": "test_resnet",
            "weights": "random",
            "image_size": 64,
            "embedding_dim": 64,
            "learning_rate": 3e-3,
        },
        augmentation=_OF_SYMBOLS,
    ),
    StudyScript(
        name="image_folder",
        description="Balance the contrastive loss on your own images, in folders by class.",
        dataset=lambda options: ImageFolder(options.root, class_depth=options.class_depth),
        add_arguments=_add_class_folders,
    ),
    SelfSupervisedScript(
        name="cifar10_ssl",
        description="Balance the contrastive loss of self-supervised learning on CIFAR-10.",
        dataset=lambda options: CIFAR10(options.root, download=options.download),
        add_arguments=_root(
            "the binary version (data_batch_1.bin and so on), or the one around it",
            downloads="CIFAR-10",
        ),
        defaults={"image_size": 32, "small_stem": True},
    ),
    SelfSupervisedScript(
        name="image_folder_ssl",
        description="Balance the contrastive loss of self-supervised learning on your own images; "
        "their folders serve the evaluation alone.",
        dataset=lambda options: ImageFolder(options.root, class_depth=options.class_depth),
        add_arguments=_add_class_folders,
        augmentation=ViewAugmentation(blurred=0.5),
    ),
)

SCRIPTS = {script.name: script for script in _SCRIPTS}
