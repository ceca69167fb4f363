"""CUB-200-2011: photographs of 200 bird species (Wah et al., Caltech, 2011)."""

from __future__ import annotations

import os
from pathlib import Path

from cbal_optuna.data.archive import Archive
from cbal_optuna.data.images import ImageFiles
from cbal_optuna.data.layout import check_images
from cbal_optuna.data.layout import name_of
from cbal_optuna.data.layout import text_lines


FOLDER = "CUB_200_2011"
N_IMAGES = 11_788
URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
SIZE = 1_150_585_339
MD5 = "97eceeb196236b17998738112f37df78"
CONTENTS = ("classes.txt", "image_class_labels.txt", "images", "images.txt")


class CUB200(ImageFiles):
    """CUB-200-2011, or another edition in its layout.

    Only 11,788 images in 200 classes are called "CUB-200-2011"; anything else has the name of its
    folder, for example the half as large edition of 2010.

    With `download` the archive, 1.1 GB, is fetched and unpacked into `root` unless the data set
    is there already; it stays in `root`. Size and MD5 are those that public loaders of this
    archive agree on.

    Args:
        root: The folder with images.txt, image_class_labels.txt, classes.txt and images/, or the
            folder that holds it as CUB_200_2011.
        download: Whether to download CUB-200-2011 where it is missing.

    Raises:
        FileNotFoundError: The data set, or an image that it lists, is missing.
        FileExistsError: The download finds an incomplete folder in its place.
        ValueError: Its lists are damaged, or what was downloaded is not the known archive.
        OSError: The download stopped; the next one goes on from there.
    """

    def __init__(self, root: str | os.PathLike[str], *, download: bool = False) -> None:
        archive = Archive("CUB-200-2011", FOLDER, CONTENTS, URL, SIZE, MD5, max_members=20_000)
        folder = archive.located(root, download=download)
        class_names = _read_list(folder / "classes.txt")
        images = _read_list(folder / "images.txt")
        paths = list(images.values())
        check_images(folder / "images", paths, folder / "images.txt")
        super().__init__(
            _name(folder, len(images), len(class_names)),
            folder / "images",
            paths,
            _labels(folder, list(images), list(class_names)),
            list(class_names.values()),
        )


def _name(folder: Path, n_images: int, n_classes: int) -> str:
    whole = (n_images, n_classes) == (N_IMAGES, 200)
    if not whole and folder.name != FOLDER:
        return folder.name
    return name_of("CUB-200-2011", folder, n_images, whole=whole)


def _read_list(path: Path) -> dict[str, str]:
    """The lines ``<id> <text>`` of a file, in their order."""
    entries: dict[str, str] = {}
    for number, line in enumerate(text_lines(path), start=1):
        key, _, text = line.strip().partition(" ")
        if not text or key in entries:
            raise ValueError(f"line {number} of {path} must be `<new id> <text>`, got {line!r}")
        entries[key] = text
    return entries


def _labels(folder: Path, image_ids: list[str], class_ids: list[str]) -> list[int]:
    path = folder / "image_class_labels.txt"
    class_of_image = _read_list(path)
    if class_of_image.keys() != set(image_ids):
        raise ValueError(f"{path} must list the images of images.txt, no more and no fewer")
    if set(class_of_image.values()) != set(class_ids):
        raise ValueError(f"{path} must use the classes of classes.txt, no more and no fewer")
    position = {class_id: label for label, class_id in enumerate(class_ids)}
    return [position[class_of_image[image_id]] for image_id in image_ids]
