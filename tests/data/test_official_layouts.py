"""Cars-196, Stanford Online Products, In-Shop and Omniglot: tiny, in their real layouts."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.io import savemat

from cbal_optuna.data import Cars196
from cbal_optuna.data import cars196
from cbal_optuna.data import class_splits
from cbal_optuna.data import indices_of
from cbal_optuna.data import InShop
from cbal_optuna.data import inshop
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import Omniglot
from cbal_optuna.data import omniglot
from cbal_optuna.data import sop
from cbal_optuna.data import StanfordOnlineProducts


MakeFolder = Callable[..., Path]

CARS_LAYOUTS = ["car_ims", "devkit", "folders"]
PARTITION = "Eval/list_eval_partition.txt"
# The real Omniglot, where it is at hand.
OMNIGLOT = os.environ.get("CBAL_TEST_OMNIGLOT")


def greys(data: LabelledImages, indices: np.ndarray | None = None) -> list[int]:
    """The grey values of images that have a single one."""
    chosen = range(len(data)) if indices is None else indices.tolist()
    return [int(np.unique(np.asarray(data.image(i))).item()) for i in chosen]


def official_test_classes(data: LabelledImages) -> list[str]:
    """The last classes, as many as the data set's own share."""
    n_test = data.n_classes * data.test_share
    assert n_test == pytest.approx(round(n_test))
    return data.class_names[-round(n_test) :]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# Cars-196


@pytest.mark.parametrize("layout", CARS_LAYOUTS)
def test_cars_have_all_images_of_both_official_parts(make_cars: MakeFolder, layout: str) -> None:
    data = Cars196(make_cars(layout, n_classes=4, images_per_class=2))
    names = [data.class_names[label] for label in data.labels]
    by_grey = dict(zip(greys(data), names))
    assert by_grey == {i: f"Car {'ZYXW'[i % 4]}" for i in range(8)}
    assert data.name == "cars_8_images"


@pytest.mark.parametrize("layout", ["car_ims", "devkit"])
def test_cars_are_tested_on_the_last_half_of_the_official_order(
    make_cars: MakeFolder, layout: str
) -> None:
    data = Cars196(make_cars(layout, n_classes=4))
    assert data.class_names == ["Car Z", "Car Y", "Car X", "Car W"]
    (split,) = class_splits(8, test_share=data.test_share)
    assert split.test == (4, 5, 6, 7)


def test_cars_in_class_folders_are_in_the_order_of_names(make_cars: MakeFolder) -> None:
    assert Cars196(make_cars("folders")).class_names == ["Car W", "Car X", "Car Y", "Car Z"]


def test_cars_in_class_folders_may_lack_a_class_in_one_part(make_cars: MakeFolder) -> None:
    root = make_cars("folders")
    shutil.rmtree(root / "test/Car W")
    assert np.bincount(Cars196(root).labels).tolist() == [1, 2, 2, 2]


def test_cars_are_found_one_folder_deeper(make_cars: MakeFolder) -> None:
    root = make_cars("devkit")
    root.rename(root.parent / "stanford_cars")
    assert len(Cars196(root.parent)) == 8


def test_cars_labels_may_be_in_the_devkit_and_images_in_a_second_folder(
    make_cars: MakeFolder,
) -> None:
    root = make_cars("devkit")
    shutil.move(root / "cars_test_annos_withlabels.mat", root / "devkit")
    (root / "cars_train").rename(root / "images")
    (root / "cars_train").mkdir()
    (root / "images").rename(root / "cars_train/cars_train")
    assert greys(Cars196(root)) == list(range(8))


def test_the_whole_of_cars_has_its_name(
    make_cars: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_cars("folders", n_classes=4)
    assert cars196.N_IMAGES == 16_185
    monkeypatch.setattr(cars196, "N_IMAGES", 8 + 192)
    for i in range(192):
        shutil.copytree(root / "train/Car Z", root / f"train/Other car {i}")
    assert Cars196(root).name == "Cars-196"


def test_missing_cars_say_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`root` must hold car_ims .*https://github.com"):
        Cars196(tmp_path)


@pytest.mark.parametrize(
    "name", ["cars_test", "cars_test_annos_withlabels.mat", "devkit/cars_meta.mat"]
)
def test_incomplete_cars_name_what_is_missing(make_cars: MakeFolder, name: str) -> None:
    root = make_cars("devkit")
    (root / name).rename(root.parent / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"cars has no {name} beside cars_"):
        Cars196(root)


@pytest.mark.parametrize("layout", ["car_ims", "devkit"])
def test_missing_image_of_cars_is_named(make_cars: MakeFolder, layout: str) -> None:
    root = make_cars(layout)
    next(root.glob("*/00002.png")).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the \d images .*/00002.png"):
        Cars196(root)


@pytest.mark.parametrize("content", [b"", b"no MATLAB file", b"MATLAB 7.3 MAT-file" + b" " * 600])
def test_damaged_list_of_cars_is_named(make_cars: MakeFolder, content: bytes) -> None:
    root = make_cars("car_ims")
    (root / "cars_annos.mat").write_bytes(content)
    with pytest.raises(ValueError, match="cars_annos.mat cannot be read as a MATLAB file"):
        Cars196(root)


@pytest.mark.parametrize("size", [150, 300, 600, 1200])
def test_truncated_list_of_cars_is_named(make_cars: MakeFolder, size: int) -> None:
    root = make_cars("car_ims")
    path = root / "cars_annos.mat"
    assert path.stat().st_size > size
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="cars_annos.mat"):
        Cars196(root)


def without_names(contents: dict[str, np.ndarray]) -> None:
    del contents["class_names"]


def without_annotations(contents: dict[str, np.ndarray]) -> None:
    contents["annotations"] = np.arange(3)


def with_class_5(contents: dict[str, np.ndarray]) -> None:
    contents["annotations"]["class"][0, 1] = np.uint8(5)


def with_class_0(contents: dict[str, np.ndarray]) -> None:
    contents["annotations"]["class"][0, 1] = np.uint8(0)


def with_two_classes(contents: dict[str, np.ndarray]) -> None:
    contents["annotations"]["class"][0, 1] = np.array([1, 2])


def with_the_same_file(contents: dict[str, np.ndarray]) -> None:
    contents["annotations"]["relative_im_path"][0, 1] = "car_ims/00001.png"


def with_an_unused_class(contents: dict[str, np.ndarray]) -> None:
    for i in (1, 5):
        contents["annotations"]["class"][0, i] = np.uint8(1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_names, "must hold the variable class_names"),
        (without_annotations, "must have the fields relative_im_path and class"),
        (with_class_5, "must use classes from 1 to 4, got 1 to 5"),
        (with_class_0, "must use classes from 1 to 4, got 0 to 4"),
        (with_two_classes, "must have one class for each image"),
        (with_the_same_file, "must list every image once, got car_ims/00001.png 2 times"),
        (with_an_unused_class, "must have images of every class, got none of Car Y"),
    ],
)
def test_wrong_list_of_cars_is_explained(
    make_cars: MakeFolder, spoil: Callable[[dict[str, np.ndarray]], None], message: str
) -> None:
    root = make_cars("car_ims")
    path = root / "cars_annos.mat"
    contents = {k: v for k, v in loadmat(path).items() if not k.startswith("_")}
    spoil(contents)
    savemat(path, contents)
    with pytest.raises(ValueError, match=f"cars_annos.mat {message}|of .*annos.mat {message}"):
        Cars196(root)


# Stanford Online Products


def test_products_of_the_test_list_are_the_test_classes(make_sop: MakeFolder) -> None:
    data = StanfordOnlineProducts(make_sop(train=(2, 2, 2, 2, 2), test=(3, 2)))
    assert official_test_classes(data) == ["bicycle_final/6", "chair_final/7"]
    assert greys(data, indices_of(data.labels, [5])) == [10, 11, 12]


def test_training_products_of_all_kinds_take_turns(make_sop: MakeFolder) -> None:
    data = StanfordOnlineProducts(make_sop(train=(2,) * 6))
    kinds = [name.partition("_")[0] for name in data.class_names[:6]]
    assert kinds == ["bicycle", "chair"] * 3
    assert greys(data, indices_of(data.labels, [1])) == [6, 7]


def test_products_are_found_from_the_parent_folder(make_sop: MakeFolder) -> None:
    root = make_sop()
    here, parent = StanfordOnlineProducts(root), StanfordOnlineProducts(root.parent)
    assert here.fingerprint() == parent.fingerprint()


def test_the_whole_of_sop_has_its_name(
    make_sop: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_sop()
    assert StanfordOnlineProducts(root).name == "Stanford_Online_Products_13_images"
    assert sop.WHOLE == (120_053, 22_634, 11_316)
    monkeypatch.setattr(sop, "WHOLE", (13, 6, 2))
    assert StanfordOnlineProducts(root).name == "Stanford Online Products"


def test_missing_products_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Ebay_train.txt, Ebay_test.txt.*https://cvgl"):
        StanfordOnlineProducts(tmp_path)


def test_missing_images_of_products_are_counted_and_named(make_sop: MakeFolder) -> None:
    root = make_sop()
    for path in (root / "chair_final").glob("11106_*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="2 of the 4 images .*Ebay_test.txt .*chair_final"):
        StanfordOnlineProducts(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_id class_id", "id class", "line 1 of .*Ebay_test.txt must be `image_id class_id"),
        ("11 5 1 ", "11 5 ", "line 3 of .*Ebay_test.txt must be `<image_id> <class_id>"),
        ("10 5 1 ", "10 2 1 ", "must list other classes than Ebay_train.txt, got 2 in both"),
        ("11105_1.png", "11105_0.png", "must list every image once, got bicycle.*11105_0.png 2"),
    ],
)
def test_damaged_list_of_products_is_explained(
    make_sop: MakeFolder, old: str, new: str, message: str
) -> None:
    root = make_sop()
    replace(root / "Ebay_test.txt", old, new)
    with pytest.raises(ValueError, match=message):
        StanfordOnlineProducts(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "line 1 of"), (b"image_id class_id super_class_id path\n\n", "must list images")],
)
def test_empty_list_of_products_is_refused(
    make_sop: MakeFolder, content: bytes, message: str
) -> None:
    root = make_sop()
    (root / "Ebay_train.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        StanfordOnlineProducts(root)


# In-Shop


def test_items_with_queries_are_the_test_classes(make_inshop: MakeFolder) -> None:
    data = InShop(make_inshop("tt", "qg", "tt", "tt", "gq"))
    assert official_test_classes(data) == ["id_00000002", "id_00000005"]
    queries = data.is_query
    assert greys(data, np.flatnonzero(queries)) == [2, 9]
    assert not queries[indices_of(data.labels, [0, 1, 2])].any()


def test_training_items_of_all_kinds_take_turns(make_inshop: MakeFolder) -> None:
    data = InShop(make_inshop("tt", "qg", "tt", "qg", "tt", "tt", "qg", "tt", "qg", "tt"))
    assert [int(name[3:]) for name in data.class_names] == [1, 6, 3, 8, 5, 10, 2, 4, 7, 9]


def test_list_and_images_of_inshop_may_be_in_the_folder_itself(make_inshop: MakeFolder) -> None:
    root = make_inshop()
    before = InShop(root.parent)
    expected = before.fingerprint(), greys(before)
    (root / PARTITION).rename(root / "list_eval_partition.txt")
    (root / "Img/img").rename(root / "img")
    after = InShop(root)
    assert (after.fingerprint(), greys(after)) == expected


def test_the_whole_of_inshop_has_its_name(
    make_inshop: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_inshop("tt", "qg")
    assert InShop(root).name == "In-shop Clothes Retrieval Benchmark_4_images"
    assert inshop.WHOLE == (52_712, 7_982, 14_218)
    monkeypatch.setattr(inshop, "WHOLE", (4, 2, 1))
    assert InShop(root).name == "In-Shop"


def test_missing_inshop_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no Eval/list_eval_.*https://mmlab.ie.cuhk"):
        InShop(tmp_path)


def test_missing_images_of_inshop_are_counted_and_named(make_inshop: MakeFolder) -> None:
    root = make_inshop()
    next((root / "Img").rglob("03_1_front.png")).unlink()
    with pytest.raises(FileNotFoundError, match="1 of the 12 images .*/03_1_front.png"):
        InShop(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12\n", "52712\n", "as many images as its first line says, got 12 below '52712'"),
        ("item_id", "id", "line 2 of .* must be `image_name item_id evaluation_status`"),
        (" id_00000002 query", " query", "line 6 of .* must be `<image_name> <item_id>"),
        ("query", "val", "must call img/WOMEN.*01_1_front.png train, query or gallery, got 'val'"),
        ("query", "train", "must not have id_00000002 in both training and test set"),
        ("03_1_front.png", "02_1_front.png", "must list every image once"),
    ],
)
def test_damaged_list_of_inshop_is_explained(
    make_inshop: MakeFolder, old: str, new: str, message: str
) -> None:
    root = make_inshop()
    replace(root / PARTITION, old, new)
    with pytest.raises(ValueError, match=message):
        InShop(root)


# Omniglot


def test_characters_of_evaluation_alphabets_are_the_test_classes(
    make_omniglot: MakeFolder,
) -> None:
    data = Omniglot(make_omniglot(background=(2, 1, 2), evaluation=(2, 2)))
    assert data.class_names[2] == "background_1/character01"
    assert official_test_classes(data) == ["evaluation_0/character01", "evaluation_0/character02"]
    assert data.labels.tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 4]
    assert greys(data) == list(range(9))


@pytest.mark.parametrize("folder", ["omniglot-py", "python"])
def test_omniglot_is_found_in_the_folders_of_others(
    make_omniglot: MakeFolder, folder: str
) -> None:
    root = make_omniglot()
    root.rename(root.parent / folder)
    assert len(Omniglot(root.parent)) == 12


def test_the_whole_of_omniglot_has_its_name(
    make_omniglot: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_omniglot()
    assert Omniglot(root).name == "omniglot_12_images"
    assert omniglot.WHOLE == (32_460, 1_623, 659)
    monkeypatch.setattr(omniglot, "WHOLE", (12, 7, 3))
    assert Omniglot(root).name == "Omniglot"


def test_missing_omniglot_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "images_background").mkdir()
    with pytest.raises(FileNotFoundError, match="no images_evaluation: .*--download.*https://"):
        Omniglot(tmp_path)


def test_a_part_of_omniglot_without_characters_is_refused(make_omniglot: MakeFolder) -> None:
    root = make_omniglot()
    shutil.rmtree(root / "images_evaluation")
    (root / "images_evaluation").mkdir()
    with pytest.raises(ValueError, match="got 4 and 0 characters"):
        Omniglot(root)


def test_a_character_in_both_parts_is_refused(make_omniglot: MakeFolder) -> None:
    root = make_omniglot()
    shutil.copytree(
        root / "images_background/background_1", root / "images_evaluation/background_1"
    )
    with pytest.raises(ValueError, match="must not have background_1/character01 in both"):
        Omniglot(root)


@pytest.mark.skipif(OMNIGLOT is None, reason="CBAL_TEST_OMNIGLOT is not set")
def test_the_real_omniglot_is_whole_and_black_on_white() -> None:
    assert OMNIGLOT is not None
    data = Omniglot(OMNIGLOT)
    assert data.name == "Omniglot"
    assert np.bincount(data.labels).tolist() == [20] * 1623
    (split,) = class_splits(data.n_classes, test_share=data.test_share)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [578, 386, 659]
    image = data.image(32_459)
    assert image.size == (105, 105)
    assert np.asarray(image).mean() > 200
