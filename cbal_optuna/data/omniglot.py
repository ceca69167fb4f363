"""Omniglot: handwritten characters of 50 alphabets (Lake et al., Science, 2015)."""

from __future__ import annotations

from collections import Counter
import os
from pathlib import Path

from cbal_optuna.data.download import download as download_file
from cbal_optuna.data.download import extract_zip
from cbal_optuna.data.image_folder import class_folders
from cbal_optuna.data.image_folder import class_images
from cbal_optuna.data.images import ImageFiles
from cbal_optuna.data.layout import find_folder
from cbal_optuna.data.layout import missing_in
from cbal_optuna.data.layout import name_of


URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
# Size in bytes and MD5 of the archives, the training classes first.
ARCHIVES = {
    "images_background": (9_464_212, "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation": (6_462_886, "6b91aef0f799c5bb55b94e3f2daec811"),
}
FOLDERS = ("omniglot-py", "python")  # of torchvision, of a clone of the repository
WHOLE = (32_460, 1_623, 659)  # images, classes, classes of the test set


class Omniglot(ImageFiles):
    """Omniglot in its official layout and split.

    32,460 drawings, black on white, 105 x 105 pixels, 20 of each of 1,623 characters. The 964
    characters of the background alphabets come first, the 659 of the evaluation alphabets last.
    A class is called by its alphabet and character, ``Latin/character01``.

    With `download` the two archives, 16 MB, are fetched and unpacked into `root` unless the data
    set is there already; they stay in `root`. Sizes and MD5 are those that public loaders of these
    archives agree on.

    Args:
        root: The folder with images_background and images_evaluation, or the one that holds it as
            omniglot-py (torchvision) or python (the repository).
        download: Whether to download what is missing.

    Raises:
        FileNotFoundError: The data set is missing.
        ValueError: A folder is empty, both parts have a class, or what was downloaded is not the
            known archive.
        OSError: The download stopped; the next one goes on from there.
    """

    def __init__(self, root: str | os.PathLike[str], *, download: bool = False) -> None:
        parent = Path(os.path.abspath(root))
        folders = [parent, *(parent / name for name in FOLDERS)]
        if download and all(missing_in(folder, tuple(ARCHIVES)) for folder in folders):
            _download(parent)
        folder = find_folder(
            parent,
            *FOLDERS,
            contents=tuple(ARCHIVES),
            data_set="Omniglot",
            source="download it with download=True (--download) or from "
            "https://github.com/brendenlake/omniglot",
        )
        characters = [
            f"{part}/{name}" for part in ARCHIVES for name in class_folders(folder / part, depth=2)
        ]
        paths, labels, characters = class_images(folder, characters)
        names = [character.partition("/")[2] for character in characters]
        n_test = sum(character.startswith("images_evaluation/") for character in characters)
        if not 0 < n_test < len(names):
            raise ValueError(
                f"{folder} must have <alphabet>/<character>/<image> in images_background and "
                f"images_evaluation, got {len(names) - n_test} and {n_test} characters"
            )
        if len(set(names)) < len(names):
            name = Counter(names).most_common(1)[0][0]
            raise ValueError(f"{folder} must not have {name} in both of its parts")
        counts = (len(paths), len(names), n_test)
        super().__init__(
            name_of("Omniglot", folder, len(paths), whole=counts == WHOLE),
            folder,
            paths,
            labels,
            names,
            test_share=n_test / len(names),
        )


def _download(parent: Path) -> None:
    for name, (size, md5) in ARCHIVES.items():
        if not (parent / name).exists():
            archive = parent / f"{name}.zip"
            download_file(f"{URL}/{name}.zip", archive, size=size, md5=md5)
            extract_zip(archive, parent / name, max_members=40_000, max_bytes=2**28)
