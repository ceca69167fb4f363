"""CIFAR-10, CIFAR-100 and STL-10, tiny, in the layouts of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import pickle

import numpy as np
import pytest

from cbal_optuna.data import CIFAR10
from cbal_optuna.data import CIFAR100
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import STL10
from cbal_optuna.data import UNLABELLED


def pixels(n: int, side: int, seed: int) -> np.ndarray:
    """Random images, uint8 of shape (n, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def write_cifar(path: Path, images: np.ndarray, *labels: list[int]) -> None:
    """Labels, then red, green and blue, row by row."""
    columns = [np.array(label, np.uint8)[:, None] for label in labels]
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    np.concatenate([*columns, planes], axis=1).tofile(path)


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    root = tmp_path / "cifar-10-batches-bin"
    root.mkdir()
    for i in range(5):
        write_cifar(root / f"data_batch_{i + 1}.bin", pixels(2, 32, i), [i, 2])
    write_cifar(root / "test_batch.bin", pixels(3, 32, 5), [0, 4, 1])
    (root / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\ndeer\n\n")
    return root


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    root = tmp_path / "cifar-100-binary"
    root.mkdir()
    write_cifar(root / "train.bin", pixels(4, 32, 0), [9, 9, 9, 9], [0, 1, 2, 1])
    write_cifar(root / "test.bin", pixels(2, 32, 1), [8, 8], [2, 0])
    (root / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n")
    return root


@pytest.fixture
def stl10(tmp_path: Path) -> Path:
    root = tmp_path / "stl10_binary"
    root.mkdir()
    for seed, (part, n) in enumerate((("train", 3), ("unlabeled", 4), ("test", 2))):
        # Column by column.
        pixels(n, 96, seed).transpose(0, 3, 2, 1).tofile(root / f"{part}_X.bin")
    np.array([1, 3, 2], np.uint8).tofile(root / "train_y.bin")
    np.array([3, 1], np.uint8).tofile(root / "test_y.bin")
    (root / "class_names.txt").write_text("airplane\nbird\ncar\n")
    return root


READERS: dict[str, Callable[[Path], LabelledImages]] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "stl10": STL10,
}


@pytest.fixture(params=READERS)
def data(request: pytest.FixtureRequest) -> LabelledImages:
    return READERS[request.param](request.getfixturevalue(request.param))


def test_cifar10_is_read(cifar10: Path) -> None:
    data = CIFAR10(cifar10)
    assert data.labels.tolist() == [0, 2, 1, 2, 2, 2, 3, 2, 4, 2, 0, 4, 1]
    assert data.test_images is not None and data.test_images.tolist() == [10, 11, 12]
    assert data.class_names == ["airplane", "automobile", "bird", "cat", "deer"]
    assert np.array_equal(data.image(3), pixels(2, 32, 1)[1])
    assert np.array_equal(data.image(12), pixels(3, 32, 5)[2])


def test_cifar100_has_fine_labels(cifar100: Path) -> None:
    data = CIFAR100(cifar100)
    assert data.labels.tolist() == [0, 1, 2, 1, 2, 0]
    assert data.test_images is not None and data.test_images.tolist() == [4, 5]
    assert np.array_equal(data.image(4), pixels(2, 32, 1)[0])


def test_stl10_has_images_without_a_label(stl10: Path) -> None:
    data = STL10(stl10)
    assert data.labels.tolist() == [0, 2, 1, *[UNLABELLED] * 4, 2, 0]
    assert data.test_images is not None and data.test_images.tolist() == [7, 8]
    assert data.n_classes == 3
    assert np.array_equal(data.image(1), pixels(3, 96, 0)[1])
    assert np.array_equal(data.image(6), pixels(4, 96, 1)[3])


def test_a_part_of_a_data_set_is_not_called_like_the_whole(data: LabelledImages) -> None:
    assert data.name.endswith(f"_{len(data)}_images")


def test_worker_process_maps_the_files_instead_of_copying_them(data: LabelledImages) -> None:
    pickled = pickle.dumps(data)
    assert len(pickled) < 3000
    copy = pickle.loads(pickled)
    assert copy.fingerprint() == data.fingerprint()
    assert copy.image(2) == data.image(2)


@pytest.mark.parametrize("name", READERS)
def test_they_are_found_from_the_folder_around(name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(name)
    assert READERS[name](root.parent).fingerprint() == READERS[name](root).fingerprint()


@pytest.mark.parametrize("name", READERS)
def test_missing_files_are_named_with_where_to_get_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no .*\.bin.*--download.*binary.tar.gz"):
        READERS[name](tmp_path)


def test_the_python_version_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n")
    with pytest.raises(FileNotFoundError, match="CIFAR-10 .binary version."):
        CIFAR10(tmp_path)


def test_a_truncated_file_is_named(cifar10: Path) -> None:
    path = cifar10 / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3.bin must hold records of 3073 bytes"):
        CIFAR10(cifar10)


def test_an_empty_file_is_named(stl10: Path) -> None:
    (stl10 / "unlabeled_X.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"unlabeled_X.bin must hold records .*, got 0 bytes"):
        STL10(stl10)


def test_labels_that_are_no_classes_are_refused(cifar100: Path, stl10: Path) -> None:
    (cifar100 / "fine_label_names.txt").write_text("apple\naquarium_fish\n")
    with pytest.raises(ValueError, match="a label of one of 2 classes for each of their 6 images"):
        CIFAR100(cifar100)
    np.array([1, 3], np.uint8).tofile(stl10 / "train_y.bin")
    with pytest.raises(ValueError, match="each of their 9 images, got 8 labels up to 2"):
        STL10(stl10)
