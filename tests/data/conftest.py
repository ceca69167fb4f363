"""Tiny data sets in the layouts of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image
import pytest


MakeFolder = Callable[..., Path]


def write_image(path: Path, grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (grey, grey, grey)).save(path)


@pytest.fixture
def make_cub(tmp_path: Path) -> MakeFolder:
    """``make_cub(folder, images_of_class)``: the official layout of CUB-200-2011.

    Image i of the data set is grey of value i. Ids begin at 1, as in the original.
    """

    def make(folder: str = "CUB_200_2011", images_of_class: tuple[int, ...] = (2, 3)) -> Path:
        root = tmp_path / folder
        classes: list[str] = []
        images: list[str] = []
        labels: list[str] = []
        for class_id, count in enumerate(images_of_class, start=1):
            class_name = f"{class_id:03}.Bird_{class_id}"
            classes.append(f"{class_id} {class_name}\n")
            for number in range(count):
                path = f"{class_name}/Bird_{class_id}_{number:04}.png"
                write_image(root / "images" / path, grey=len(images))
                images.append(f"{len(images) + 1} {path}\n")
                labels.append(f"{len(images)} {class_id}\n")
        (root / "classes.txt").write_text("".join(classes))
        (root / "images.txt").write_text("".join(images))
        (root / "image_class_labels.txt").write_text("".join(labels))
        return root

    return make


@pytest.fixture
def make_class_folders(tmp_path: Path) -> MakeFolder:
    """``make_class_folders(*paths)``: image i, at paths[i] of the folder, is grey of value i."""

    def make(*paths: str) -> Path:
        root = tmp_path / "flowers"
        root.mkdir()
        for grey, path in enumerate(paths):
            write_image(root / path, grey)
        return root

    return make
