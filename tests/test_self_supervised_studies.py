"""The scripts for self-supervised learning from the command line to the report, on tiny data."""

from __future__ import annotations

from collections.abc import Callable
import importlib.util
from pathlib import Path

import numpy as np
import optuna
from PIL import Image
import pytest

from cbal_optuna.command_line import main
from cbal_optuna.command_line import results


STUDIES = Path(__file__).parents[1] / "studies"
TINY = [
    *("--backbone", "test_resnet", "--image-size", "32", "--embedding-dim", "8"),
    *("--samples", "32", "--batch-sizes", "8", "16"),
]

Result = tuple[int, str, str]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs a script: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))

    def run(name: str, *arguments: str) -> Result:
        spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with pytest.raises(SystemExit) as exit:
            main(module.SCRIPT, arguments)
        printed = capsys.readouterr()
        return exit.value.code, printed.out, printed.err  # type: ignore[return-value]

    return run


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    root = tmp_path / "cifar-10-batches-bin"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (12, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(12) % 3
        records.tofile(root / f"{name}.bin")
    (root / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n")
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(60):
        path = tmp_path / "birds" / f"class {i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "birds"


def test_cifar10_from_the_command_line_to_the_report(
    run: Callable[..., Result], cifar10: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FINAL_SEEDS", 2)
    command = (
        *("cifar10_ssl", "--root", str(cifar10), *TINY, "--confirm", "1", "--final"),
        *("--export", "model"),
    )
    status, out, _ = run(*command, "--n-trials", "2")
    assert status == 0
    assert "Test images, 2 fresh seeds" in out
    assert "kNN accuracy" in out and "Linear probe accuracy" in out and "Effective rank" in out
    assert "classes" not in out
    study = optuna.load_study(study_name="cifar10_ssl", storage="sqlite:///cifar10_ssl.db")
    described = study.user_attrs["objective"]
    assert described["small_stem"] and described["test_images"] == 12
    assert described["dataset"] == "cifar-10-batches-bin_72_images"
    assert study.trials[0].params["batch_size"] == 16
    assert "| kept for the test | 12 images |" in Path("model/README.md").read_text()
    assert Path("model/head/model.safetensors").is_file()
    report = Path("cifar10_ssl.html").read_text()
    assert "Trained again, test images" in report and "Linear probe accuracy" in report


def test_an_image_folder_is_split_by_image(run: Callable[..., Result], folder: Path) -> None:
    command = ("image_folder_ssl", "--root", str(folder), *TINY, "--confirm", "0")
    status, out, _ = run(*command, "--n-trials", "1")
    assert status == 0
    study = optuna.load_study(
        study_name="image_folder_ssl", storage="sqlite:///image_folder_ssl.db"
    )
    described = study.user_attrs["objective"]
    assert described["test_images"] == 12
    assert described["augmentation"]["blurred"] == 0.5
    assert not described["small_stem"]
    again, second, _ = run(*command, "--n-trials", "1")
    assert (again, second) == (0, out)


def test_a_study_goes_on_with_the_gallery_that_it_has(
    run: Callable[..., Result], folder: Path
) -> None:
    command = ("image_folder_ssl", "--root", str(folder), *TINY, "--confirm", "0")
    status, _, _ = run(*command, "--gallery-images", "9", "--n-trials", "1")
    assert status == 0
    status, _, err = run(*command, "--n-trials", "2")
    assert status == 2
    assert "is a study with gallery_images 9, not None" in err


@pytest.mark.parametrize("name", ["cifar10_ssl", "image_folder_ssl"])
def test_help_speaks_of_images_and_not_of_what_needs_labels(
    run: Callable[..., Result], name: str
) -> None:
    status, out, _ = run(name, "--help")
    assert status == 0
    words = " ".join(out.split())
    assert "training and validation images" in words
    assert "(default: 64 128 256 512 1024)" in words
    assert "--small-stem" in words
    assert "--images-per-class" not in words and "--head-only" not in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--root", "nowhere"), "`root` must be the folder of CIFAR-10"),
        (("--batch-sizes", "64"), "`batch_size` must be from 2 to the number of images"),
        (("--backbone", "test_vit"), "`small_stem` is True"),
        (("--weights", "pretrained"), "`weights` is 'pretrained', but a small stem"),
        (("--head-only",), "unrecognized arguments: --head-only"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    run: Callable[..., Result], cifar10: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = run(
        "cifar10_ssl", "--root", str(cifar10), *TINY, "--samples", "64", *arguments
    )
    assert status == 2
    assert message in err and err.count("\n") == 1
    assert not Path("cifar10_ssl.db").exists()
