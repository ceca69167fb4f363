"""Tiny data sets in the layouts of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
import pytest
from scipy.io import savemat


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


def write_annotations(path: Path, field: str, files: list[str], classes: list[int]) -> None:
    """A MATLAB file with the struct array of Cars-196."""
    rows = np.empty((1, len(files)), dtype=[("bbox_x1", "O"), ("class", "O"), (field, "O")])
    for i, (file, label) in enumerate(zip(files, classes)):
        rows[0, i] = (i, np.uint8(label), file)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": rows, "class_names": class_names_of_cars(max(classes))})


def class_names_of_cars(n_classes: int) -> np.ndarray:
    names = np.empty((1, n_classes), dtype=object)
    names[0] = [f"Car {name}" for name in "ZYXWVUTSRQPONMLK"[:n_classes]]
    return names


@pytest.fixture
def make_cars(tmp_path: Path) -> MakeFolder:
    """``make_cars(layout, n_classes, images_per_class)``: one of the layouts of Cars-196.

    The images of the data set are grey of values 0, 1, 2, ... in the order of files; their classes
    take turns. Every other image is in the official test part.
    """

    def make(layout: str, n_classes: int = 4, images_per_class: int = 2) -> Path:
        root = tmp_path / "cars"
        names = class_names_of_cars(n_classes)[0]
        n_images = n_classes * images_per_class
        classes = [i % n_classes + 1 for i in range(n_images)]
        files = [f"{i + 1:05}.png" for i in range(n_images)]
        half = n_images // 2
        if layout == "car_ims":
            files = [f"car_ims/{file}" for file in files]
            places = files
            write_annotations(root / "cars_annos.mat", "relative_im_path", files, classes)
        elif layout == "folders":
            places = [
                f"{part}/{names[c - 1]}/{file}"
                for part, c, file in zip(["train"] * half + ["test"] * half, classes, files)
            ]
        else:
            places = [f"cars_train/{file}" for file in files[:half]]
            places += [f"cars_test/{file}" for file in files[half:]]
            train, test = "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"
            write_annotations(root / train, "fname", files[:half], classes[:half])
            write_annotations(root / test, "fname", files[half:], classes[half:])
            savemat(root / "devkit/cars_meta.mat", {"class_names": names[None]})
        for grey, place in enumerate(places):
            write_image(root / place, grey)
        return root

    return make


@pytest.fixture
def make_sop(tmp_path: Path) -> MakeFolder:
    """``make_sop(train, test)``: Stanford Online Products with so many images of each product.

    The first half of a part's products are bicycles, the others chairs; image i is grey of value
    i, in the order of the lists.
    """

    def make(train: tuple[int, ...] = (2, 3, 2, 2), test: tuple[int, ...] = (2, 2)) -> Path:
        root = tmp_path / "Stanford_Online_Products"
        root.mkdir()
        class_id = grey = 0
        for name, sizes in (("train", train), ("test", test)):
            lines = ["image_id class_id super_class_id path"]
            for i, size in enumerate(sizes):
                class_id += 1
                kind = int(2 * i >= len(sizes))
                for number in range(size):
                    path = f"{('bicycle', 'chair')[kind]}_final/1110{class_id}_{number}.png"
                    write_image(root / path, grey)
                    grey += 1
                    lines.append(f"{grey} {class_id} {kind + 1} {path}")
            (root / f"Ebay_{name}.txt").write_text("\n".join(lines) + "\n")
        return root

    return make


@pytest.fixture
def make_inshop(tmp_path: Path) -> MakeFolder:
    """``make_inshop(statuses)``: In-Shop Clothes Retrieval, the items' images being t(rain),
    q(uery) or g(allery).

    Every item is of another of two kinds; image i is grey of value i, in the order of the list.
    """

    def make(*statuses: str) -> Path:
        root = tmp_path / "In-shop Clothes Retrieval Benchmark"
        names = {"t": "train", "q": "query", "g": "gallery"}
        lines = []
        for item, images in enumerate(statuses or ("ttt", "qgg", "tt", "qg", "tt"), start=1):
            kind = ("WOMEN/Dresses", "MEN/Denim")[item % 2]
            for number, status in enumerate(images, start=1):
                path = f"img/{kind}/id_{item:08}/{number:02}_1_front.png"
                write_image(root / "Img" / path, len(lines))
                lines.append(f"{path}          id_{item:08} {names[status]}   ")
        header = [str(len(lines)), "image_name item_id evaluation_status"]
        (root / "Eval").mkdir()
        (root / "Eval/list_eval_partition.txt").write_text("\n".join(header + lines) + "\n")
        return root

    return make


@pytest.fixture
def make_omniglot(tmp_path: Path) -> MakeFolder:
    """``make_omniglot(background, evaluation)``: Omniglot with so many drawings of each character,
    two characters to an alphabet; image i is grey of value i."""

    def make(
        background: tuple[int, ...] = (2, 1, 2, 2), evaluation: tuple[int, ...] = (2, 2, 1)
    ) -> Path:
        root = tmp_path / "omniglot"
        grey = 0
        for part, sizes in (("background", background), ("evaluation", evaluation)):
            for character, size in enumerate(sizes):
                place = f"{part}_{character // 2}/character{character % 2 + 1:02}"
                for drawing in range(1, size + 1):
                    name = f"{character:04}_{drawing:02}.png"
                    write_image(root / f"images_{part}" / place / name, grey)
                    grey += 1
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
