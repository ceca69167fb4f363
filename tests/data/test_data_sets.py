from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import pickle
import re
from typing import Any
import warnings

from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
from PIL import EpsImagePlugin
from PIL import Image
import pytest

from cbal_optuna.data import BrokenImageError
from cbal_optuna.data import Cars196
from cbal_optuna.data import CUB200
from cbal_optuna.data import cub200
from cbal_optuna.data import Digits
from cbal_optuna.data import ImageFolder
from cbal_optuna.data import InShop
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import Omniglot
from cbal_optuna.data import StanfordOnlineProducts
from cbal_optuna.data.images import read_image


MakeFolder = Callable[..., Path]
RGB = tuple[int, int, int]


def greys(data: LabelledImages) -> list[int]:
    """The grey value of every image of a data set whose images have a single colour."""
    return [int(np.unique(np.asarray(data.image(index))).item()) for index in range(len(data))]


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


# The common interface


@pytest.fixture(params=["digits", "cub", "cars", "sop", "inshop", "omniglot", "class_folders"])
def data(request: pytest.FixtureRequest) -> LabelledImages:
    if request.param == "digits":
        pytest.importorskip("sklearn")
        return Digits()
    make = request.getfixturevalue(f"make_{request.param}")
    if request.param == "cars":
        return Cars196(make("car_ims"))
    if request.param == "class_folders":
        return ImageFolder(make("a/1.png", "a/2.png", "b/1.png"))
    data_sets = {
        "cub": CUB200,
        "inshop": InShop,
        "omniglot": Omniglot,
        "sop": StanfordOnlineProducts,
    }
    return data_sets[request.param](make())


def test_labels_are_integers_up_to_the_number_of_classes(data: LabelledImages) -> None:
    assert data.labels.dtype == np.int64
    assert data.labels.shape == (len(data),)
    assert set(data.labels.tolist()) == set(range(data.n_classes))
    assert len(data.class_names) == data.n_classes


def test_test_share_and_queries_fit_the_classes_and_images(data: LabelledImages) -> None:
    assert 0 < data.test_share < 1
    assert data.is_query.shape == data.labels.shape
    assert data.is_query.dtype == bool


def test_images_are_rgb(data: LabelledImages) -> None:
    assert {data.image(index).mode for index in range(3)} == {"RGB"}


def test_worker_process_gets_the_same_images(data: LabelledImages) -> None:
    copy = pickle.loads(pickle.dumps(data))
    assert copy.fingerprint() == data.fingerprint()
    assert copy.image(1) == data.image(1)


def test_fingerprint_is_a_repeatable_hex_digest(data: LabelledImages) -> None:
    assert re.fullmatch("[0-9a-f]{32}", data.fingerprint())
    assert data.fingerprint() == data.fingerprint()


# From image files to RGB


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 90, (90, 90, 90)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 100, 255, 51), (204, 224, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (90, 255), (90, 90, 90)),
    ],
)
def test_png_of_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: RGB
) -> None:
    image = read_image(saved(Image.new(mode, (3, 2), colour), tmp_path / "image.png"))
    assert (image.mode, image.size, image.getpixel((2, 1))) == ("RGB", (3, 2), expected)


@pytest.mark.parametrize(("transparent", "expected"), [(None, (7, 8, 9)), (0, (255, 255, 255))])
def test_palette_image_becomes_rgb(tmp_path: Path, transparent: int | None, expected: RGB) -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([7, 8, 9])
    options: dict[str, int] = {} if transparent is None else {"transparency": transparent}
    path = saved(image, tmp_path / "image.png", **options)
    assert read_image(path).getpixel((0, 0)) == expected


def test_palette_with_an_alpha_channel_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 2), (10, 20, 30, 0)).convert("PA")
    assert read_image(saved(image, tmp_path / "image.tif")).getpixel((0, 0)) == (255, 255, 255)


def test_transparent_grey_value_becomes_white(tmp_path: Path) -> None:
    path = saved(Image.new("L", (2, 2), 40), tmp_path / "image.png", transparency=40)
    assert read_image(path).getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_photograph_becomes_rgb(tmp_path: Path) -> None:
    path = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "image.jpg")
    red, green, blue = np.asarray(read_image(path))[4, 4].tolist()
    assert red > 250 > 5 > max(green, blue)


def test_16_bit_grey_map_is_scaled(tmp_path: Path) -> None:
    path = tmp_path / "image.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + np.array([0, 257 * 200], ">u2").tobytes())
    image = read_image(path)
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (200, 200, 200)]


@pytest.mark.parametrize(("mode", "colour"), [("F", 0.5), ("I", 70_000), ("I", -1)])
def test_pixels_without_a_defined_range_are_refused(
    tmp_path: Path, mode: str, colour: float
) -> None:
    path = saved(Image.new(mode, (2, 2), colour), tmp_path / "image.tif")
    with pytest.raises(BrokenImageError, match="image.tif"):
        read_image(path)


def test_exif_orientation_turns_the_image_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 1), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright = read_image(saved(image, tmp_path / "image.png", exif=exif))
    assert upright.size == (2, 4)
    assert upright.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_spoil_the_image(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (4, 2)), tmp_path / "image.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08")
    assert read_image(path).size == (4, 2)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    path = saved(frames[0], tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert read_image(path).getpixel((0, 0)) == (255, 0, 0)


def noise_file(path: Path) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels), path).read_bytes()


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "gif", "webp", "tif", "ppm"])
@pytest.mark.parametrize("share", [0, 0.02, 0.5])
def test_truncated_file_is_named(tmp_path: Path, extension: str, share: float) -> None:
    path = tmp_path / f"cut_off.{extension}"
    content = noise_file(path)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BrokenImageError, match=re.escape(str(path))):
        read_image(path)


def test_text_that_claims_to_be_an_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "page.jpg"
    path.write_text("<html>404 not found</html>")
    with pytest.raises(BrokenImageError, match="page.jpg"):
        read_image(path)


def test_postscript_is_not_given_to_its_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "code.png"
    Image.new("RGB", (4, 4)).save(path, "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: pytest.fail("run"))
    with pytest.raises(BrokenImageError, match="cannot be read: it is none of BMP, GIF, JPEG, "):
        read_image(path)


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (30, 30)), tmp_path / "endless.jpg")
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(BrokenImageError, match="endless.jpg cannot be read: it has more than"):
        read_image(path)


def test_decompression_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("RGB", (30, 30)), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BrokenImageError, match="bomb.png.*exceeds limit"):
        read_image(path)


def test_missing_file_is_missing_rather_than_broken(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        read_image(tmp_path / "nowhere.png")


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    extension=st.sampled_from(["jpg", "png", "bmp", "gif", "webp", "ppm"]),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_file_gives_an_rgb_image_or_the_error(
    tmp_path: Path, extension: str, damage: list[tuple[int, int]]
) -> None:
    path = tmp_path / f"damaged.{extension}"
    content = bytearray(noise_file(path))
    for position, value in damage:
        content[position % len(content)] = value
    path.write_bytes(content)
    try:
        # Pillow warns of what it repairs.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read_image(path)
    except BrokenImageError as error:
        assert str(path) in str(error)
    else:
        assert image.mode == "RGB"


# Digits


def test_digits_are_the_1797_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    original = datasets.load_digits()
    digits = Digits()
    assert (digits.name, len(digits), digits.n_classes) == ("digits", 1797, 10)
    assert digits.labels.tolist() == original.target.tolist()
    red = np.asarray(digits.image(3))[..., 0]
    assert np.array_equal(red, np.round(original.images[3] / 16 * 255))


# CUB-200


def test_cub_images_and_labels_are_in_the_official_order(make_cub: MakeFolder) -> None:
    data = CUB200(make_cub(images_of_class=(2, 3)))
    assert data.class_names == ["001.Bird_1", "002.Bird_2"]
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    assert greys(data) == [0, 1, 2, 3, 4]


def test_cub_lists_are_joined_by_id(make_cub: MakeFolder) -> None:
    root = make_cub(images_of_class=(1, 1))
    (root / "classes.txt").write_text("20 second species\n3 first species\n")
    (root / "image_class_labels.txt").write_text("2 3\n1 20\n")
    data = CUB200(root)
    assert data.class_names == ["second species", "first species"]
    assert data.labels.tolist() == [0, 1]
    assert greys(data) == [0, 1]


def test_cub_is_found_from_the_parent_folder(make_cub: MakeFolder) -> None:
    root = make_cub()
    assert CUB200(root.parent).fingerprint() == CUB200(root).fingerprint()


def test_cub_survives_a_change_of_directory(
    make_cub: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_cub()
    monkeypatch.chdir(root)
    data = CUB200(".")
    monkeypatch.chdir("/")
    assert greys(data) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("folder", "n_images", "name"),
    [
        ("CUB_200_2011", 300, "CUB-200-2011"),
        ("birds", 300, "CUB-200-2011"),
        ("CUB_200_2010_128", 250, "CUB_200_2010_128"),
        ("CUB_200_2011", 250, "CUB_200_2011_250_images"),
    ],
)
def test_cub_name_is_truthful(
    make_cub: MakeFolder,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    n_images: int,
    name: str,
) -> None:
    monkeypatch.setattr(cub200, "N_IMAGES", 300)
    root = make_cub(folder, (*[1] * 199, n_images - 199))
    assert CUB200(root).name == name


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/secret.png"])
def test_images_outside_of_the_folder_are_refused(make_cub: MakeFolder, path: str) -> None:
    root = make_cub()
    images = root / "images.txt"
    images.write_text(images.read_text().replace("001.Bird_1/Bird_1_0000.png", path))
    with pytest.raises(ValueError, match=r"images.txt must list images in .*secret.png"):
        CUB200(root)


def test_cub_name_counts_11788_images() -> None:
    assert cub200.N_IMAGES == 11_788


def test_missing_cub_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`root` .* classes.txt.*--download.*https://"):
        CUB200(tmp_path)


@pytest.mark.parametrize("name", ["classes.txt", "image_class_labels.txt", "images.txt"])
def test_incomplete_cub_names_what_is_missing(make_cub: MakeFolder, name: str) -> None:
    root = make_cub("birds")
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"birds has no {name}:"):
        CUB200(root)


def test_missing_cub_images_are_counted_and_named(make_cub: MakeFolder) -> None:
    root = make_cub(images_of_class=(2, 3))
    (root / "images/001.Bird_1/Bird_1_0001.png").unlink()
    for path in (root / "images/002.Bird_2").iterdir():
        path.unlink()
    (root / "images/002.Bird_2").rmdir()
    with pytest.raises(FileNotFoundError, match="4 of the 5 images .*Bird_1/Bird_1_0001.png, 002"):
        CUB200(root)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("images.txt", "1\n", "line 1 of .*images.txt"),
        ("images.txt", "1 a.png\n1 b.png\n", "line 2 of .*images.txt"),
        ("image_class_labels.txt", "1 1\n", "image_class_labels.txt must list the images"),
        ("image_class_labels.txt", "1 1\n2 9\n", "image_class_labels.txt must use the classes"),
        ("image_class_labels.txt", "1 1\n2 1\n", "image_class_labels.txt must use the classes"),
    ],
)
def test_damaged_cub_list_is_named(
    make_cub: MakeFolder, name: str, content: str, message: str
) -> None:
    root = make_cub(images_of_class=(1, 1))
    if name == "images.txt":
        for image in ("a.png", "b.png"):
            Image.new("RGB", (2, 2)).save(root / "images" / image)
    (root / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        CUB200(root)


# Class folders


def test_classes_and_images_are_in_natural_order(make_class_folders: MakeFolder) -> None:
    data = ImageFolder(
        make_class_folders("bird10/1.png", "bird9/img10.png", "bird9/img2.png", "ant/1.png")
    )
    assert data.class_names == ["ant", "bird9", "bird10"]
    assert data.labels.tolist() == [0, 1, 1, 2]
    assert greys(data) == [3, 2, 1, 0]


def test_numbers_that_differ_in_zeros_only_are_ordered_too(make_class_folders: MakeFolder) -> None:
    names = [f"{zeros}1" for zeros in ("00000", "0000", "000", "00", "0", "")]
    root = make_class_folders(*(f"{name}/{name}.png" for name in names))
    assert ImageFolder(root).class_names == names


@pytest.mark.parametrize(
    "extension", ["jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "JPG", "Png"]
)
def test_image_formats_are_known_by_their_extension(
    make_class_folders: MakeFolder, extension: str
) -> None:
    data = ImageFolder(make_class_folders(f"a/image.{extension}", "b/image.pgm.png"))
    assert data.labels.tolist() == [0, 1]
    assert data.image(0).mode == "RGB"


def test_images_may_be_nested_in_their_class_folder(make_class_folders: MakeFolder) -> None:
    data = ImageFolder(make_class_folders("a/1.png", "a/x/y/2.png", "b/z/3.png"))
    assert data.labels.tolist() == [0, 0, 1]
    assert greys(data) == [0, 1, 2]


def test_hidden_and_other_files_are_ignored(make_class_folders: MakeFolder) -> None:
    root = make_class_folders(
        "a/1.png", "b/1.png", "a/.2.png", ".c/1.png", "a/.thumbs/1.png", "cover.png"
    )
    (root / "a" / "notes.txt").write_text("not an image")
    data = ImageFolder(root)
    assert data.class_names == ["a", "b"]
    assert greys(data) == [0, 1]


def test_unicode_names_are_kept(make_class_folders: MakeFolder) -> None:
    data = ImageFolder(make_class_folders("Ärmelblume/größe²3.png", "薔薇/花.png"))
    assert data.class_names == ["Ärmelblume", "薔薇"]
    assert greys(data) == [0, 1]
    assert data.fingerprint()


def test_linked_images_and_class_folders_are_followed(
    make_class_folders: MakeFolder, tmp_path: Path
) -> None:
    source = make_class_folders("a/1.png", "b/1.png")
    subset = tmp_path / "subset"
    (subset / "c").mkdir(parents=True)
    (subset / "a").symlink_to(source / "a")
    (subset / "c" / "2.png").symlink_to(source / "b" / "1.png")
    data = ImageFolder(subset)
    assert data.class_names == ["a", "c"]
    assert greys(data) == [0, 1]


def test_linked_folders_within_a_class_are_not_followed(make_class_folders: MakeFolder) -> None:
    root = make_class_folders("a/1.png", "b/1.png")
    (root / "a" / "loop").symlink_to(root)
    assert greys(ImageFolder(root)) == [0, 1]


def test_link_to_nothing_is_named(make_class_folders: MakeFolder) -> None:
    root = make_class_folders("a/1.png", "b/1.png")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(FileNotFoundError, match="gone.png is a link to nothing"):
        ImageFolder(root)


def test_class_without_images_is_left_out_with_a_warning(make_class_folders: MakeFolder) -> None:
    root = make_class_folders("a/1.png", "c/1.png")
    (root / "b").mkdir()
    with pytest.warns(UserWarning, match="no images in class folder .*b$"):
        data = ImageFolder(root)
    assert data.class_names == ["a", "c"]
    assert data.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "expected"), [(None, "flowers"), ("Oxford flowers", "Oxford flowers")]
)
def test_name_is_the_folders_unless_given(
    make_class_folders: MakeFolder, name: str | None, expected: str
) -> None:
    assert ImageFolder(make_class_folders("a/1.png", "b/1.png"), name=name).name == expected


def test_missing_class_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`root` must be a folder of class folders"):
        ImageFolder(tmp_path / "nowhere")


@pytest.mark.parametrize("paths", [(), ("1.png", "2.png"), ("a/1.png",)])
def test_fewer_than_two_classes_are_refused(
    make_class_folders: MakeFolder, paths: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="`root` must hold at least two .*root/<class>/<image>"):
        ImageFolder(make_class_folders(*paths))


def test_parts_of_a_split_are_not_taken_for_classes(make_class_folders: MakeFolder) -> None:
    with pytest.raises(ValueError, match="split"):
        ImageFolder(make_class_folders("train/a/1.png", "Test/a/1.png"))


def test_deep_trees_have_their_classes_at_the_depth_that_is_asked_for(
    make_class_folders: MakeFolder,
) -> None:
    root = make_class_folders(
        "Birds/10/1.png", "Birds/9/1.png", "Birds/9/x/2.png", "Fish/9/1.png", "Fish/1.png"
    )
    groups, species = ImageFolder(root), ImageFolder(root, class_depth=2)
    assert groups.class_names == ["Birds", "Fish"]
    assert species.class_names == ["Birds/9", "Birds/10", "Fish/9"]
    assert species.labels.tolist() == [0, 0, 1, 2]
    assert greys(species) == [1, 2, 0, 3]


@pytest.mark.parametrize(
    ("depth", "message"),
    [(0, "`class_depth` must be at least 1"), (2, "root/<group>/<class>/<im")],
)
def test_a_depth_without_classes_is_refused(
    make_class_folders: MakeFolder, depth: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolder(make_class_folders("a/1.png", "b/1.png"), class_depth=depth)


def test_class_may_be_called_train(make_class_folders: MakeFolder) -> None:
    data = ImageFolder(make_class_folders("car/1.png", "train/1.png"))
    assert data.class_names == ["car", "train"]


# Fingerprints of files


def change_size(root: Path) -> None:
    path = root / "a" / "1.png"
    time = path.stat().st_mtime_ns
    path.write_bytes(b"another size")
    os.utime(path, ns=(time, time))


def change_time(root: Path) -> None:
    os.utime(root / "a" / "1.png", ns=(0, 0))


def rename(root: Path) -> None:
    (root / "a" / "1.png").rename(root / "a" / "0.png")


def add_image(root: Path) -> None:
    (root / "b" / "2.png").write_bytes(b"")


@pytest.mark.parametrize("change", [change_size, change_time, rename, add_image])
def test_fingerprint_changes_with_the_files(
    make_class_folders: MakeFolder, change: Callable[[Path], None]
) -> None:
    root = make_class_folders("a/1.png", "b/1.png")
    before = ImageFolder(root).fingerprint()
    change(root)
    assert ImageFolder(root).fingerprint() != before


def test_fingerprint_survives_moving_the_folder(
    make_class_folders: MakeFolder, tmp_path: Path
) -> None:
    root = make_class_folders("a/1.png", "b/1.png")
    before = ImageFolder(root).fingerprint()
    assert ImageFolder(root.rename(tmp_path / "moved")).fingerprint() == before
