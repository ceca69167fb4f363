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
            That holds the artifacts.
        usual, best:
            Identifiers of theirs, the same if the settings are.
        seed:
            Of both trainings.
    """

    directory: Path
    usual: str
    best: str
    seed: int

    @classmethod
    def of(
        cls, directory: Path | None, usual: FrozenTrial, best: FrozenTrial
    ) -> StoredPictures | None:
        """Those of two trainings with one seed, if both have any."""
        of_usual, of_best = (find_artifact(trial, _PICTURES) for trial in (usual, best))
        if directory is None or of_usual is None or of_best is None:
            return None
        return cls(directory, of_usual, of_best, usual.user_attrs["seed"])

    def read(self) -> tuple[Pictures, Pictures]:
        """Of the usual and of the best setting.

        Raises:
            OSError: They cannot be read.
            ValueError: They are something else.
        """
        usual, best = (
            Pictures.of(json.loads(read_artifact(self.directory, identifier)))
            for identifier in (self.usual, self.best)
        )
        return usual, best


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
