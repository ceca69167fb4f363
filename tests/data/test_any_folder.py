"""Whatever lies in a folder of data: a study, or one sentence and no study.

The trials are left out.
"""

from __future__ import annotations

from collections.abc import Callable
import io
import os
from pathlib import Path
import shutil

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


MANY = settings.get_profile("any input")
QUICK = [
    *("--head-only", "--backbone", "test_resnet", "--weights", "random", "--image-size", "32"),
    *("--embedding-dim", "8", "--samples", "64", "--batch-sizes", "8"),
]
ROOT = "the data"

# What Pillow can write of each mode, as files of these formats.
MODES = {
    "1": ("png", "tiff"),
    "L": ("png", "jpeg", "webp", "bmp", "gif", "ppm", "tiff"),
    "LA": ("png",),
    "P": ("png", "gif", "bmp"),
    "RGB": ("png", "jpeg", "webp", "bmp", "ppm", "tiff"),
    "RGBA": ("png", "webp", "tiff"),
    "CMYK": ("jpeg", "tiff"),
    "YCbCr": ("jpeg", "tiff"),
    "I;16": ("png", "tiff"),
    "I": ("tiff",),
    "F": ("tiff",),
}
PIXELS = np.random.default_rng(0).integers(0, 256, 24 * 20 * 4, dtype=np.uint8).tobytes()


def written(mode: str, form: str, orientation: int = 1, frames: int = 1) -> bytes:
    """A file with noise in it."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.frombytes("RGBA", (24, 20), PIXELS)
    image = image.convert({"I;16": "L", "LA": "L"}.get(mode, mode if mode != "1" else "L"))
    image = image.convert(mode) if mode != "I;16" else Image.new("I;16", (24, 20), 60_000)
    options = {"exif": exif} if form in ("jpeg", "png", "webp", "tiff") else {}
    if frames > 1 and form in ("gif", "webp", "png", "tiff"):
        options |= {"save_all": True, "append_images": [image] * (frames - 1)}
    image.save(file, form, **options)
    return file.getvalue()


def with_size(width: int, height: int, form: str) -> bytes:
    """The head of an image that says to be so large."""
    if form == "ppm":
        return b"P6 %d %d 255\n" % (width, height)
    if form == "gif":
        return b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + bytes(9)
    file = io.BytesIO()
    Image.new("1", (1, 1)).save(file, form)
    content = bytearray(file.getvalue())
    place, order = (16, "big") if form == "png" else (18, "little")
    content[place : place + 8] = width.to_bytes(4, order) + height.to_bytes(4, order)
    return bytes(content)


FILES_OF_ALL_KINDS = [(mode, form) for mode, forms in MODES.items() for form in forms]
IMAGES = st.builds(
    lambda kind, orientation, frames: written(*kind, orientation, frames),
    st.sampled_from(FILES_OF_ALL_KINDS),
    st.integers(0, 9),
    st.integers(1, 3),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image cut off, or with something else in the middle."""
    content = draw(IMAGES)
    start = draw(st.integers(0, len(content)))
    if draw(st.booleans()):
        return content[:start]
    return (
        content[:start] + draw(st.binary(max_size=9)) + content[start + draw(st.integers(0, 9)) :]
    )


LARGE = st.builds(
    with_size,
    st.sampled_from([0, 1, 20_000, 65_535]),
    st.sampled_from([0, 1, 20_000, 65_535]),
    st.sampled_from(["ppm", "gif", "png", "bmp"]),
)
# PostScript is code, which Pillow would give to Ghostscript.
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(proof) (w) file closefile\n"
CONTENTS = IMAGES | damaged() | LARGE | st.binary(max_size=40) | st.just(POSTSCRIPT)
NAMES = st.sampled_from(
    [*("a\nb", "<script>alert(1)<\u2215script>", "\x1b[2J", "\x9b31m", "\udcff", "\u202egnp")]
    + [*("é", "e\u0301", "ﷺ", "💥", "A", "a", "CON", "a b", "-x", "--root", "..x", "x" * 240)]
    + [*("$(touch code)", "`touch code`", "%s", "{}", "a;b", "'", '"', "\\")]
) | st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(os.fsencode(name)) < 240 and name not in (".", "..")
)
LINKS = ("self", "parent", "root", "outside", "nothing", "class", "zeros")


def put(folder: Path, name: str, kind: str, content: bytes) -> None:
    """Something of a kind under a name that may be taken already."""
    path = folder / name
    if os.path.lexists(path):
        return
    targets = {"self": name, "parent": "..", "root": "../..", "outside": "/etc/passwd"}
    targets |= {"nothing": "nowhere", "class": "../class 1", "zeros": "/dev/zero"}
    if kind in targets:
        path.symlink_to(targets[kind])
    elif kind == "folder":
        path.mkdir()
        (path / "0.png").write_bytes(content)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.write(content)
            file.truncate(2**40)
    else:
        path.write_bytes(content)


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders")
    for i in range(32):
        path = folder / f"class {i % 8}/{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(written("RGB", "png"))
    return folder


@pytest.mark.parametrize("kind", FILES_OF_ALL_KINDS)
def test_an_image_of_any_kind_is_a_study(
    study_or_sentence: Callable[..., str], class_folders: Path, kind: tuple[str, str]
) -> None:
    def fill() -> None:
        shutil.copytree(class_folders, ROOT)
        Path(ROOT, "class 3/3.png").write_bytes(written(*kind, orientation=6, frames=3))

    sentence = study_or_sentence(
        lambda: main(SCRIPTS["image_folder"], ["--root", ROOT, *QUICK]), fill
    )
    assert ("cannot be read" in sentence) == (kind[0] == "F")


@MANY
@given(
    things=st.lists(
        st.tuples(
            st.none() | NAMES,
            NAMES,
            st.sampled_from(["", "", "", ".png", ".JPG", ".webp"]),
            st.sampled_from([*LINKS, "folder", "pipe", "huge", *["file"] * 8]),
            CONTENTS,
        ),
        min_size=1,
        max_size=3,
    ),
    broken=st.none() | CONTENTS,
    depth=st.sampled_from([1, 1, 1, 2]),
)
def test_class_folders_are_a_study_or_a_sentence(
    study_or_sentence: Callable[..., str],
    class_folders: Path,
    things: list[tuple[str | None, str, str, str, bytes]],
    broken: bytes | None,
    depth: int,
) -> None:
    def fill() -> None:
        shutil.copytree(class_folders, ROOT)
        if broken is not None:
            Path(ROOT, "class 3/3.png").write_bytes(broken)
        for parent, name, extension, kind, content in things:
            folder = Path(ROOT, parent or "class 0")
            if os.path.lexists(folder) and not folder.is_dir():
                continue
            folder.mkdir(exist_ok=True)
            put(folder, name + extension, kind, content)

    arguments = ["--root", ROOT, "--class-depth", str(depth), *QUICK]
    sentence = study_or_sentence(lambda: main(SCRIPTS["image_folder"], arguments), fill)
    assert not sentence or ROOT in sentence or "`" in sentence


LISTS = {
    "cub200": ("classes.txt", "images.txt", "image_class_labels.txt"),
    "cars196": ("cars_annos.mat",),
    "sop": ("Ebay_train.txt", "Ebay_test.txt"),
    "inshop": ("Eval/list_eval_partition.txt",),
    "cifar10_ssl": ("batches.meta.txt", "data_batch_1.bin", "test_batch.bin"),
}


@pytest.fixture
def official(
    tmp_path: Path,
    make_cub: Callable[..., Path],
    make_cars: Callable[..., Path],
    make_sop: Callable[..., Path],
    make_inshop: Callable[..., Path],
) -> dict[str, Path]:
    """Data sets in their official layouts, by the name of their script."""
    cifar = tmp_path / "cifar-10-batches-bin"
    cifar.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        cifar.joinpath(name).write_bytes(bytes(range(4)) + bytes(4 * 3073 - 4))
    cifar.joinpath("batches.meta.txt").write_text("a\nb\nc\n")
    return {
        "cub200": make_cub(images_of_class=(4,) * 8),
        "cars196": make_cars("car_ims", n_classes=8, images_per_class=4),
        "sop": make_sop((4,) * 6, (4,) * 4),
        "inshop": make_inshop(*["tttt"] * 6, *["qqgg"] * 4),
        "cifar10_ssl": cifar,
    }


@MANY
@given(
    name=st.sampled_from(list(LISTS)),
    number=st.integers(0, 2),
    place=st.floats(0, 1),
    gone=st.sampled_from([0, 0, 1, 5, 100_000]),
    put=st.binary(max_size=9)
    | st.sampled_from([b"../../outside.png", b"/etc/passwd", b"\n", b" ", b"\xff", b"\0", b"1"]),
)
def test_official_layouts_are_a_study_or_a_sentence(
    study_or_sentence: Callable[..., str],
    official: dict[str, Path],
    name: str,
    number: int,
    place: float,
    gone: int,
    put: bytes,
) -> None:
    def fill() -> None:
        shutil.copytree(official[name], ROOT)
        path = Path(ROOT, LISTS[name][number % len(LISTS[name])])
        content = path.read_bytes()
        start = int(place * len(content))
        path.write_bytes(content[:start] + put + content[start + gone :])

    own = QUICK if name != "cifar10_ssl" else ["--samples", "64", "--batch-sizes", "8"]
    own = own if name != "cifar10_ssl" else [*own, "--backbone", "test_resnet"]
    script = SCRIPTS[name]
    sentence = study_or_sentence(lambda: main(script, ["--root", ROOT, *own]), fill)
    assert not sentence or ROOT in sentence or "`" in sentence


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="there are no users")
@pytest.mark.parametrize("kind", ["image", "class", "root"])
def test_what_may_not_be_read_is_a_sentence(
    study_or_sentence: Callable[..., str], class_folders: Path, kind: str
) -> None:
    inner = {"image": "class 1/1.png", "class": "class 1", "root": "."}[kind]

    def fill() -> None:
        shutil.copytree(class_folders, ROOT)
        Path(ROOT, inner).chmod(0)
        Path(".").chmod(0o777)
        Path(os.environ["CBAL_CACHE"]).chmod(0o777)

    def run() -> None:
        # Who may do everything may read everything.
        nobody = os.geteuid() == 0
        if nobody:
            os.seteuid(65_534)
        try:
            main(SCRIPTS["image_folder"], ["--root", ROOT, *QUICK, "--cache-dir", "cache"])
        finally:
            if nobody:
                os.seteuid(0)
            Path(ROOT, inner).chmod(0o700)

    assert ROOT in study_or_sentence(run, fill)
