"""Pictures of embeddings as artifacts of the trials that made them."""

from __future__ import annotations

from dataclasses import dataclass
import json
from pathlib import Path
import warnings

from optuna.trial import FrozenTrial

from cbal_optuna.artifacts import find_artifact
from cbal_optuna.artifacts import read_artifact
from cbal_optuna.artifacts import write_artifacts
from cbal_optuna.pictures import drawn_map
from cbal_optuna.pictures import drawn_sheet
from cbal_optuna.pictures import Pictures


# What is read again; the other files are for people who look at a trial's artifacts.
_PICTURES = "pictures.json"


@dataclass(frozen=True)
class StoredPictures:
    """Pictures of a training with the usual and of one with the best setting.

    Attributes:
        directory:
            That holds the artifacts; :obj:`None` for a storage out of whose reach they are.
        usual, best:
            Identifiers of theirs, the same if the settings are.
        seed:
            Of both trainings.
    """

    directory: Path | None
    usual: str
    best: str
    seed: int

    @classmethod
    def of(
        cls, directory: Path | None, usual: FrozenTrial, best: FrozenTrial
    ) -> StoredPictures | None:
        """Those of two trainings with one seed, if both have any."""
        of_usual, of_best = (find_artifact(trial, _PICTURES) for trial in (usual, best))
        if of_usual is None or of_best is None:
            return None
        return cls(directory, of_usual, of_best, usual.user_attrs["seed"])

    def read(self) -> dict[str, Pictures]:
        """By setting: ``"usual"`` and ``"best"``, or ``"usual and best"`` if they are the same.

        Raises:
            OSError: They cannot be read.
            ValueError: They are something else.
        """
        if self.usual == self.best:
            return {"usual and best": self._read(self.usual)}
        return {"usual": self._read(self.usual), "best": self._read(self.best)}

    def _read(self, identifier: str) -> Pictures:
        if self.directory is None:
            raise FileNotFoundError("this storage has no folder of artifacts")
        content = read_artifact(self.directory, identifier)
        try:
            return Pictures.of(json.loads(content))
        except (RecursionError, ValueError) as error:
            raise ValueError(
                f"the artifact {identifier} in {self.directory} holds no pictures of embeddings"
            ) from error


def keep_pictures(directory: Path | None, pictures: Pictures | None) -> dict[str, str]:
    """Write pictures, and give the system attributes by which a trial has them. Where they cannot
    be written, the training still counts."""
    if directory is None or pictures is None:
        return {}
    files = {
        "map.png": drawn_map(pictures),
        "neighbours.jpg": drawn_sheet(pictures),
        _PICTURES: json.dumps(pictures.plain()).encode(),
    }
    try:
        return write_artifacts(directory, files)
    except OSError as error:
        warnings.warn(f"the pictures of the embeddings are not kept: {error}", stacklevel=2)
        return {}
