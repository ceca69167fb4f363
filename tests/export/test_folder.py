from __future__ import annotations

import os
from pathlib import Path

import pytest

from cbal_optuna.export import check_folder
from cbal_optuna.export.folder import replaced


def export(folder: Path, text: str) -> None:
    with replaced(folder) as part:
        (part / "config.json").write_text('{"cbal_optuna": {}}')
        (part / "model.safetensors").write_text(text)


@pytest.mark.parametrize("prepared", [False, True])
def test_a_new_or_an_empty_folder_is_taken(tmp_path: Path, prepared: bool) -> None:
    folder = tmp_path / "model"
    if prepared:
        folder.mkdir()
    check_folder(folder)
    export(folder, "first")
    assert (folder / "model.safetensors").read_text() == "first"
    assert os.listdir(tmp_path) == ["model"]


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    export(folder, "first")
    (folder / "head").mkdir()
    (folder / "head" / "model.safetensors").write_text("of the first")
    export(folder, "second")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_text() == "second"
    assert os.listdir(tmp_path) == ["model"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    export(tmp_path / "first", "first")
    (tmp_path / "link").symlink_to(tmp_path / "first")
    export(tmp_path / "link", "second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "first" / "model.safetensors").read_text() == "second"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_earlier_export(tmp_path: Path, error: type[BaseException]) -> None:
    folder = tmp_path / "model"
    export(folder, "first")
    with pytest.raises(error), replaced(folder) as part:
        (part / "model.safetensors").write_text("half")
        raise error
    assert (folder / "model.safetensors").read_text() == "first"
    assert os.listdir(tmp_path) == ["model"]


def test_what_cannot_be_put_in_place_leaves_the_earlier_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    export(folder, "first")
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.suffix == ".part":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no"):
        export(folder, "second")
    assert (folder / "model.safetensors").read_text() == "first"
    assert os.listdir(tmp_path) == ["model"]


def test_what_was_put_there_meanwhile_is_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(OSError, match="holds 'LICENSE'"), replaced(folder):
        folder.mkdir()
        (folder / "LICENSE").write_text("precious")
    assert (folder / "LICENSE").read_text() == "precious"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": "precious"}, "holds 'notes.txt', which is no file of an export"),
        ({"config.json": '{"architecture": "resnet18"}'}, "holds another model"),
        ({"config.json": "[]"}, "holds another model"),
        ({"config.json": "3"}, "holds another model"),
        ({"config.json": "nonsense"}, "holds another model"),
        ({"README.md": "precious"}, "holds another model"),
        ({"config.json": '{"cbal_optuna": {}}', "LICENSE": "mine"}, "holds 'LICENSE'"),
        ({"config.json": '{"cbal_optuna": {}}', "data/1.jpg": "mine"}, "holds 'data/1.jpg'"),
    ],
)
def test_a_folder_that_is_no_export_is_refused(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(OSError, match=message):
        check_folder(tmp_path)


def test_a_place_where_nothing_can_be_put_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="is a file"):
        check_folder(tmp_path / "file")
    with pytest.raises(OSError, match="file is no folder"):
        check_folder(tmp_path / "file" / "model")
    with pytest.raises(OSError, match="nowhere is no folder"):
        check_folder(tmp_path / "nowhere" / "model")
    with pytest.raises(OSError, match="mount point"):
        check_folder(Path("/"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OSError, match="is read-only"):
        check_folder(tmp_path / "model")


def test_what_must_stay_is_not_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="study.db lies in it"):
        check_folder(tmp_path / "model", tmp_path / "model" / "study.db")
    check_folder(tmp_path / "model", tmp_path / "models" / "study.db")
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    with pytest.raises(OSError, match="lies in it"):
        check_folder(tmp_path / "model")
