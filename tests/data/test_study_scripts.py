"""The scripts of the data sets of metric learning, from the files to the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import re
import runpy
import sys

import optuna
import pytest


MakeFolder = Callable[..., Path]
Result = tuple[int, str, str]

STUDIES = Path(__file__).parents[2] / "studies"
QUICK = [
    *("--head-only", "--backbone", "test_resnet", "--weights", "random", "--image-size", "32"),
    *("--embedding-dim", "8", "--samples", "64", "--batch-sizes", "8"),
]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs a script: exit status, stdout, stderr."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))

    def run(name: str, *arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(STUDIES / f"{name}.py"), run_name="__main__")
        printed = capsys.readouterr()
        return exit.value.code, printed.out, printed.err  # type: ignore[return-value]

    return run


@pytest.fixture
def root(request: pytest.FixtureRequest) -> Path:
    """A tiny data set for the script that is called like the parameter."""
    name = request.param
    make: MakeFolder = request.getfixturevalue(
        {"cub200": "make_cub", "cars196": "make_cars"}.get(name, f"make_{name}")
    )
    sizes = {
        "cub200": {"images_of_class": (4,) * 12},
        "cars196": {"layout": "car_ims", "n_classes": 12, "images_per_class": 4},
        "sop": {"train": (4,) * 6, "test": (4,) * 4},
        "omniglot": {"background": (4,) * 6, "evaluation": (4,) * 4},
        "inshop": {},
    }
    items = ["tttt"] * 6 + ["qqgg"] * 4
    return make(*items) if name == "inshop" else make(**sizes[name])


@pytest.mark.parametrize(
    ("name", "root", "n_test"),
    [
        ("cub200", "cub200", 6),
        ("cars196", "cars196", 6),
        ("sop", "sop", 4),
        ("inshop", "inshop", 4),
        ("omniglot", "omniglot", 4),
    ],
    indirect=["root"],
)
def test_a_script_runs_from_the_files_to_the_test_classes(
    run: Callable[..., Result], name: str, root: Path, n_test: int
) -> None:
    search = ("--n-trials", "2", "--confirm", "0", "--final")
    status, out, err = run(name, "--root", str(root), *QUICK, *search)
    assert status == 0, err
    assert "on test classes" in out or "Test classes" in out
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{name}.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    assert study.user_attrs["objective"]["test_classes"] == n_test


@pytest.mark.parametrize("name", ["cars196", "inshop", "omniglot", "sop"])
def test_the_help_of_a_script_has_its_own_options_and_defaults(
    run: Callable[..., Result], name: str
) -> None:
    status, out, _ = run(name, "--help")
    assert status == 0
    assert "--root DIR" in out
    assert f"sqlite:///{name}.db" in out


@pytest.mark.parametrize(
    ("name", "root", "file", "content", "message"),
    [
        ("cars196", "cars196", "cars_annos.mat", b"MATLAB", "cars_annos.mat cannot be read"),
        ("sop", "sop", "Ebay_train.txt", b"1 1 bicycle", "line 1 of .*Ebay_train.txt must be"),
        ("inshop", "inshop", "Eval/list_eval_partition.txt", b"52712\n", "line 2 of .*must be"),
        ("omniglot", "omniglot", "images_background", None, "has no images_background: download"),
        ("cars196", "cars196", "car_ims/00003.png", None, "1 of the 48 images .*car_ims/00003"),
        ("sop", "sop", "bicycle_final/11101_0.png", None, "1 of the 24 images .*11101_0.png"),
    ],
    indirect=["root"],
)
def test_damaged_files_are_one_sentence(
    run: Callable[..., Result],
    name: str,
    root: Path,
    file: str,
    content: bytes | None,
    message: str,
) -> None:
    if content is None:
        (root / file).rename(root / "elsewhere")
    else:
        (root / file).write_bytes(content)
    status, out, err = run(name, "--root", str(root), *QUICK)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        ("0", "`class_depth` must be at least 1"),
        ("2", "two class folders .*root/<group>/<class>/"),
    ],
)
def test_class_folders_at_the_wrong_depth_are_one_sentence(
    run: Callable[..., Result], make_class_folders: MakeFolder, depth: str, message: str
) -> None:
    root = make_class_folders("a/1.png", "b/1.png")
    status, out, err = run("image_folder", "--root", str(root), "--class-depth", depth)
    assert (status, out) == (2, "")
    assert re.search(message, err)
