from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import download_artifact
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts import get_all_artifact_meta
from optuna.storages import InMemoryStorage
from optuna.trial import create_trial
import pytest

from cbal_optuna import sqlite_files
from cbal_optuna.artifacts import artifact_directory
from cbal_optuna.artifacts import find_artifact
from cbal_optuna.artifacts import read_artifact
from cbal_optuna.artifacts import write_artifacts
from cbal_optuna.storage import open_storage


def test_artifacts_are_beside_the_database(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/birds.db")
    study = optuna.create_study(storage=storage)
    for asked in (storage, study._storage):
        assert artifact_directory(asked) == tmp_path / "birds_artifacts"


def test_so_are_those_of_one_that_can_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my birds"
    folder.mkdir()
    url = f"sqlite:///{folder}/birds.db"
    optuna.create_study(storage=open_storage(url))
    monkeypatch.setattr(sqlite_files, "is_writable", lambda path: False)
    assert artifact_directory(open_storage(url, to_read=True)) == folder / "birds_artifacts"


def test_those_of_a_server_are_in_the_working_directory(postgresql_schema: str) -> None:
    assert artifact_directory(open_storage(postgresql_schema)) == Path("postgres_artifacts")


def test_what_is_in_memory_has_none() -> None:
    assert artifact_directory(InMemoryStorage()) is None


def test_optuna_finds_what_was_written(tmp_path: Path) -> None:
    attributes = write_artifacts(tmp_path / "new", {"a.png": b"1", "b.json": b"2"})
    study = optuna.create_study()
    study.add_trial(create_trial(value=1.0, system_attrs=attributes))
    (trial,) = study.trials
    metas = get_all_artifact_meta(trial, storage=study._storage)
    assert [(m.filename, m.mimetype) for m in metas] == [
        ("a.png", "image/png"),
        ("b.json", "application/json"),
    ]
    store = FileSystemArtifactStore(tmp_path / "new")
    arguments: dict[str, Any] = {"artifact_store": store, "file_path": str(tmp_path / "copy")}
    download_artifact(artifact_id=metas[1].artifact_id, **arguments)
    assert (tmp_path / "copy").read_bytes() == b"2"


def test_an_artifact_is_found_by_its_name(tmp_path: Path) -> None:
    attributes = write_artifacts(tmp_path, {"a.png": b"1", "b.json": b"2"})
    deleted = {"other": 1, "artifacts:x": "null"}
    damaged = {f"artifacts:{i}": text for i, text in enumerate(("{", "{}", "[1]", "[" * 9999, 1))}
    trial = create_trial(value=1.0, system_attrs={**deleted, **damaged, **attributes})
    identifier = find_artifact(trial, "b.json")
    assert identifier is not None and read_artifact(tmp_path, identifier) == b"2"
    assert find_artifact(trial, "c") is None


@pytest.mark.parametrize("directory", ["missing", "."])
def test_an_artifact_that_is_gone_is_an_oserror(tmp_path: Path, directory: str) -> None:
    with pytest.raises(OSError, match="there is no artifact x in"):
        read_artifact(tmp_path / directory, "x")


@pytest.mark.parametrize("identifier", ["../secret", "folder/../../secret", "/etc/passwd"])
def test_an_identifier_is_no_path(tmp_path: Path, identifier: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "artifacts").mkdir()
    with pytest.raises(FileNotFoundError, match="no artifact"):
        read_artifact(tmp_path / "artifacts", identifier)
