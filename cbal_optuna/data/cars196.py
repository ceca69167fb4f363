"""Cars-196: photographs of 196 models of cars (Krause et al., Stanford, 2013)."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cbal_optuna.data.image_folder import class_folders
from cbal_optuna.data.image_folder import class_images
from cbal_optuna.data.images import ImageFiles
from cbal_optuna.data.layout import check_images
from cbal_optuna.data.layout import missing_in
from cbal_optuna.data.layout import name_of
from cbal_optuna.data.matlab_file import matlab_variable
from cbal_optuna.data.matlab_file import Value


N_IMAGES = 16_185
FOLDERS = ("stanford_cars", "car_data", "car_data/car_data")
SOURCE = (
    "the official address is dead, see https://github.com/pytorch/vision/issues/7545 for copies, "
    "or https://www.kaggle.com/datasets/jutrera/stanford-car-dataset-by-classes-folder"
)


class Cars196(ImageFiles):
    """Cars-196, all 16,185 images, in one of the layouts in which it is passed on.

    The first 98 classes are to train on, the last 98 for the test, whatever official part, train
    or test, an image is in: that split is for classification. Bounding boxes are not used.

    The layouts:

    * car_ims/ and cars_annos.mat
    * cars_train/, cars_test/, devkit/cars_meta.mat, devkit/cars_train_annos.mat, and
      cars_test_annos_withlabels.mat beside them or in devkit/
    * train/ and test/, both with one folder for each class, called like the class. The classes are
      then in the order of their names, while the official order is another one within the makes;
      the test classes are the same.

    Stanford has taken the data set off its server. Copies, and the missing files of some, are
    listed at https://github.com/pytorch/vision/issues/7545; the third layout is
    https://www.kaggle.com/datasets/jutrera/stanford-car-dataset-by-classes-folder.

    Args:
        root: The folder with one of the layouts, or the one that holds it as stanford_cars,
            car_data or car_data/car_data.

    Raises:
        FileNotFoundError: The data set, or an image that it lists, is missing.
        ValueError: Its lists are damaged.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        folder, read = _find(Path(os.path.abspath(root)))
        paths, labels, class_names = read(folder)
        whole = (len(paths), len(class_names)) == (N_IMAGES, 196)
        super().__init__(
            name_of("Cars-196", folder, len(paths), whole=whole),
            folder,
            paths,
            labels,
            class_names,
        )


class _Listing(NamedTuple):
    paths: list[str]
    labels: list[int]
    class_names: list[str]


def _find(root: Path) -> tuple[Path, Callable[[Path], _Listing]]:
    """The folder of the data set, and how to read it."""
    folders = (root, *(root / name for name in FOLDERS))
    found = [(folder, contents) for folder in folders for contents in LAYOUTS]
    folder, contents = min(found, key=lambda place: len(missing_in(*place)) / len(place[1]))
    missing = missing_in(folder, contents)
    if len(missing) == len(contents):
        raise FileNotFoundError(
            "`root` must hold car_ims and cars_annos.mat of Cars-196, or cars_train, cars_test "
            f"and their lists, or the class folders train and test, but {root} holds none of "
            f"them: {SOURCE}"
        )
    if missing:
        raise FileNotFoundError(
            f"`root` must be the folder of Cars-196, but {folder} has no {', '.join(missing)} "
            f"beside {', '.join(sorted(set(contents) - set(missing)))}: {SOURCE}"
        )
    return folder, LAYOUTS[contents]


def _one_list(folder: Path) -> _Listing:
    path = folder / "cars_annos.mat"
    names = _class_names(path)
    paths, labels = _annotations(path, "relative_im_path", len(names))
    check_images(folder, paths, path)
    return _checked(path, _Listing(paths, labels, names))


def _two_lists(folder: Path) -> _Listing:
    names = _class_names(folder / "devkit/cars_meta.mat")
    test = folder / "cars_test_annos_withlabels.mat"
    lists = {
        "cars_train": folder / "devkit/cars_train_annos.mat",
        "cars_test": test if test.exists() else folder / "devkit" / test.name,
    }
    paths: list[str] = []
    labels: list[int] = []
    for part, path in lists.items():
        # Some copies have the images one folder deeper.
        place = f"{part}/{part}" if (folder / part / part).is_dir() else part
        files, part_labels = _annotations(path, "fname", len(names))
        part_paths = [f"{place}/{name}" for name in files]
        check_images(folder, part_paths, path)
        paths += part_paths
        labels += part_labels
    return _checked(folder / "devkit/cars_meta.mat", _Listing(paths, labels, names))


def _two_trees(folder: Path) -> _Listing:
    parts = {part: class_folders(folder / part) for part in ("train", "test")}
    names = sorted(set(parts["train"]) | set(parts["test"]))
    if len(names) < 2:
        raise ValueError(f"{folder} must have the folders of the classes in train and test")
    paths: list[str] = []
    labels: list[int] = []
    for part, part_names in parts.items():
        files, positions, folders = class_images(folder, [f"{part}/{name}" for name in part_names])
        label = {f"{part}/{name}": label for label, name in enumerate(names)}
        paths += files
        labels += [label[folders[position]] for position in positions]
    return _checked(folder, _Listing(paths, labels, names))


# By the files and folders by which they are known.
LAYOUTS = {
    ("car_ims", "cars_annos.mat"): _one_list,
    (
        "cars_train",
        "cars_test",
        "devkit/cars_meta.mat",
        "devkit/cars_train_annos.mat",
        "cars_test_annos_withlabels.mat",
    ): _two_lists,
    (
        "cars_train",
        "cars_test",
        "devkit/cars_meta.mat",
        "devkit/cars_train_annos.mat",
        "devkit/cars_test_annos_withlabels.mat",
    ): _two_lists,
    ("train", "test"): _two_trees,
}


def _read(path: Path, variable: str) -> Value:
    try:
        value = matlab_variable(path, variable)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a MATLAB file: {error}") from error
    if value is None:
        raise ValueError(f"{path} must hold the variable {variable}, but does not")
    return value


def _class_names(path: Path) -> list[str]:
    names = _read(path, "class_names")
    return [str(name) for name in names] if isinstance(names, list) else [str(names)]


def _annotations(path: Path, field: str, n_classes: int) -> tuple[list[str], list[int]]:
    """Images and labels, the file name being in `field`."""
    annotations = _read(path, "annotations")
    rows = [row for row in annotations if isinstance(row, dict)]
    if len(rows) < len(annotations) or not all({field, "class"} <= row.keys() for row in rows):
        raise ValueError(f"the annotations of {path} must have the fields {field} and class")
    files = [str(row[field]) for row in rows]
    try:
        labels = [_number(row["class"]) - 1 for row in rows]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} must have one class for each image: {error}") from error
    if labels and not 0 <= min(labels) <= max(labels) < n_classes:
        raise ValueError(
            f"{path} must use classes from 1 to {n_classes}, got {min(labels) + 1} to "
            f"{max(labels) + 1}"
        )
    return files, labels


def _number(value: Value) -> int:
    if not isinstance(value, np.ndarray) or len(value) != 1:
        raise ValueError("got a text or several numbers")
    return int(value[0])


def _checked(source: Path, listing: _Listing) -> _Listing:
    if unused := set(range(len(listing.class_names))) - set(listing.labels):
        raise ValueError(
            f"{source} must have images of every class, got none of "
            f"{listing.class_names[min(unused)]}"
        )
    return listing
