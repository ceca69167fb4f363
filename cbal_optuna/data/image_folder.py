"""Any folder of images with one sub-folder for each class."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import os
from pathlib import Path
import re
import warnings

from cbal_optuna.data.images import ImageFiles


EXTENSIONS = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
SPLIT_NAMES = frozenset(("dev", "test", "train", "training", "val", "valid", "validation"))


class ImageFolder(ImageFiles):
    """Images in class folders: ``root/<class>/**/<image>``.

    In trees such as iNaturalist's of 2018, ``<group>/<species>/<image>``, the classes are deeper:
    with `class_depth` 2 they are the species.

    Images are the files with extension jpg, jpeg, png, bmp, gif, webp, tif, tiff, ppm or pgm, in
    either case, in the class folder or at any depth below it. Classes and images are in natural
    order (``bird2`` before ``bird10``). Files and folders whose name begins with a dot are
    ignored, and so are other files. Links to images and to whole class folders are followed; links
    to folders inside a class folder are not. A class folder without images is left out with a
    warning.

    Args:
        root: The folder of class folders.
        class_depth: At which depth below `root` they are; images above it are ignored.
        name: What to call the data set; by default the name of the folder.

    Raises:
        FileNotFoundError: There is no such folder, or an image is a link to nothing, or no file.
        ValueError: Fewer than two class folders with images, or folders that are the parts of a
            split (train, test, ...) rather than classes, or `class_depth` is below 1.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, class_depth: int = 1, name: str | None = None
    ) -> None:
        if class_depth < 1:
            raise ValueError(f"`class_depth` must be at least 1, got {class_depth}")
        folder = Path(os.path.abspath(root))
        paths, labels, class_names = class_images(folder, class_folders(folder, class_depth))
        if len(class_names) < 2:
            raise ValueError(
                "`root` must hold at least two class folders with images "
                f"(root/{'<group>/' * (class_depth - 1)}<class>/<image>), got {len(class_names)} "
                f"in {folder}"
            )
        super().__init__(name or folder.name, folder, paths, labels, class_names)


def class_images(root: Path, folders: Sequence[str]) -> tuple[list[str], list[int], list[str]]:
    """The images of class folders, in natural order.

    Args:
        root: The folder that all paths start from.
        folders: Relative paths of the class folders. Those without images are left out with a
            warning.

    Returns:
        Relative paths of the images, their labels, and the class folders that have images.

    Raises:
        FileNotFoundError: An image is a link to nothing.
    """
    paths: list[str] = []
    labels: list[int] = []
    class_names: list[str] = []
    for folder in folders:
        images = _natural_order(_images(root, folder))
        if images:
            labels += [len(class_names)] * len(images)
            class_names.append(folder)
            paths += images
        else:
            warnings.warn(f"no images in class folder {root / folder}", stacklevel=3)
    return paths, labels, class_names


def class_folders(root: Path, depth: int = 1) -> list[str]:
    """Relative paths of the folders at a depth below `root`, in natural order.

    Raises:
        FileNotFoundError: `root` is no folder.
        ValueError: `root` holds the parts of a split.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"`root` must be a folder of class folders, got {root}")
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    if names and SPLIT_NAMES.issuperset(name.lower() for name in names):
        raise ValueError(
            f"`root` must hold one folder for each class, got the split {sorted(names)} in "
            f"{root}: pass one of these folders"
        )
    if depth > 1:
        names = [
            f"{name}/{inner}" for name in names for inner in class_folders(root / name, depth - 1)
        ]
    return _natural_order(names)


def _images(root: Path, folder: str) -> Iterator[str]:
    """Paths of the images at any depth below root/folder, relative to `root`."""
    with os.scandir(root / folder) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if not entry.is_symlink():
                    yield from _images(root, path)
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                if not entry.is_file():
                    raise FileNotFoundError(
                        f"the image {root / path} is a link to nothing, or no file"
                    )
                yield path


def _natural_order(names: Iterator[str] | list[str]) -> list[str]:
    def key(name: str) -> tuple[list[str | int], str]:
        # Odd parts are the numbers, so text is compared with text and number with number; the
        # name itself decides between "1" and "01".
        parts = re.split(r"(\d+)", name)
        return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], name

    return sorted(names, key=key)
