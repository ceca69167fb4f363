"""Files that belong to trials, as Optuna's artifacts: where they are, written and read.

They lie in a folder beside the database: ``cub200_artifacts`` for ``cub200.db``. For a database on
a server that is a folder of its name in the working directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
import json
import mimetypes
from pathlib import Path
import uuid

from optuna.artifacts import ArtifactMeta
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from cbal_optuna.sqlite_files import file_of
from cbal_optuna.storage import engine_of


_PREFIX = "artifacts:"


def artifact_directory(storage: BaseStorage) -> Path | None:
    """Where the artifacts of a storage's trials are; it need not exist. :obj:`None` for a storage
    that is in memory, or no database."""
    engine = engine_of(storage)
    if engine is None or engine.url.database in (None, "", ":memory:"):
        return None
    file = file_of(engine.url)
    if file is None:
        return Path(f"{Path(str(engine.url.database)).stem}_artifacts")
    return file.with_name(f"{file.stem}_artifacts")


def write_artifacts(directory: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files, and give the system attributes that make them those of a trial.

    Unlike Optuna's ``upload_artifact`` it needs no trial that exists, so that one can be stored
    with its artifacts at once.

    Args:
        directory:
            Made if need be.
        files:
            Contents by name.

    Raises:
        OSError: They cannot be written.
    """
    directory.mkdir(exist_ok=True)
    store = FileSystemArtifactStore(directory)
    attributes = {}
    for name, content in files.items():
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        meta = ArtifactMeta(str(uuid.uuid4()), name, kind, None)
        store.write(meta.artifact_id, BytesIO(content))
        attributes[f"{_PREFIX}{meta.artifact_id}"] = json.dumps(asdict(meta))
    return attributes


def find_artifact(trial: FrozenTrial, name: str) -> str | None:
    """The identifier of a trial's artifact of that name."""
    for key, value in trial.system_attrs.items():
        if key.startswith(_PREFIX) and _filename(value) == name:
            return key.removeprefix(_PREFIX)
    return None


def _filename(value: object) -> object:
    """That of an artifact by its attribute; nothing, if somebody has deleted it in the dashboard,
    or has written something else there."""
    try:
        meta = json.loads(value) if isinstance(value, str) else None
    except (RecursionError, ValueError):
        return None
    return meta.get("filename") if isinstance(meta, dict) else None


def read_artifact(directory: Path, identifier: str) -> bytes:
    """The content of an artifact.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    try:
        # A database made by others could name any file.
        if Path(identifier).name != identifier:
            raise ArtifactNotFound
        with FileSystemArtifactStore(directory).open_reader(identifier) as file:
            return file.read()
    except ArtifactNotFound as error:
        raise FileNotFoundError(f"there is no artifact {identifier} in {directory}") from error
