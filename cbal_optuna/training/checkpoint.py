"""Work in progress in files, so that what was cut off goes on where it was.

A file is named by a digest of all that the work depends on. So whoever does the same work again
finds it: the same command, another trial of the study, another machine that shares the folder. It
holds tensors and plain values, and is loaded without running code. Processes that do the same work
at once do not harm one another: a state of the one is a state of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
import time
from typing import Any
import warnings
from zipfile import BadZipFile
from zipfile import ZipFile

import torch

from cbal_optuna.replaced_files import remove_abandoned
from cbal_optuna.replaced_files import remove_abandoned_in
from cbal_optuna.replaced_files import replaced
from cbal_optuna.version import __version__


_OURS = f"{'[0-9a-f]' * 32}.checkpoint"
# Seconds after which nobody comes back to a file, its work having been given up.
_GIVEN_UP = 30 * 86_400


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints. Those that have not changed for thirty days are removed.

    Args:
        directory:
            Made when the first one is written.
        every:
            Seconds between two of them; shorter work has none.

    Raises:
        ValueError: `every` is not positive.
    """

    directory: Path
    every: float = 60.0

    def __post_init__(self) -> None:
        if not self.every > 0:
            raise ValueError(f"`every` is {self.every}; it should be a positive number.")

    def of(self, work: Mapping[str, Any]) -> Checkpoint:
        """The one of a work, described by all that its result depends on, in plain values."""
        description = json.dumps(work, sort_keys=True, default=str)
        key = hashlib.sha256(description.encode()).hexdigest()[:32]
        return Checkpoint(self.directory / f"{key}.checkpoint", self.every)


class Checkpoint:
    """A file with the state of some work, replaced as a whole.

    Attributes:
        is_stuck:
            Whether the work goes on from this file and has written no other one since.
    """

    def __init__(self, path: Path, every: float) -> None:
        self._path = path
        self._every = every
        self._last = time.monotonic()
        self._warned = False
        self.is_stuck = False

    @property
    def is_due(self) -> bool:
        """Whether it is time to write it."""
        return time.monotonic() - self._last >= self._every

    @property
    def is_there(self) -> bool:
        return self._path.exists()

    def read(self) -> dict[str, Any] | None:
        """What was written last, on the CPU; :obj:`None`, with a warning, if it cannot be used."""
        try:
            with ZipFile(self._path) as file:
                # torch does not look at the checksums.
                if file.testzip() is not None:
                    raise BadZipFile
            saved = torch.load(self._path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        # Damaged files raise errors of many kinds.
        except Exception:
            self.reject("is damaged")
            return None
        if not isinstance(saved, dict) or saved.get("key") != self._path.stem:
            self.reject("is of something else")
            return None
        if saved.get("version") != __version__:
            self.reject(f"was written by version {saved.get('version')} of cbal_optuna")
            return None
        contents: dict[str, Any] = saved["contents"]
        return contents

    def reject(self, reason: str) -> None:
        """Warn that what was read is not used."""
        warnings.warn(
            f"the checkpoint {self._path} {reason}, so it is ignored and its work begins anew",
            stacklevel=2,
        )

    def write(self, contents: Mapping[str, Any]) -> None:
        """Replace the file; where that fails, warn once and go on with the old one."""
        saved = {"key": self._path.stem, "version": __version__, "contents": dict(contents)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(self._path) as part, part.open("wb") as file:
                torch.save(saved, file)
                file.flush()
                os.fsync(file.fileno())
            self.is_stuck = False
            _remove_old(self._path.parent)
        # On a full disk torch raises the one or the other.
        except (OSError, RuntimeError) as error:
            if not self._warned:
                reason = str(error).splitlines()[0]
                warnings.warn(
                    f"the checkpoint {self._path} cannot be written ({reason}); work goes on, but "
                    "if it is cut off it begins anew, or where it was written last",
                    stacklevel=2,
                )
            self._warned = True
        finally:
            self._last = time.monotonic()

    def remove(self) -> None:
        """With what is left of a process that was killed while writing it."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            remove_abandoned(self._path)

    @contextmanager
    def removed_at_the_end(self, *ends: type[Exception]) -> Iterator[None]:
        """Removes the file after a block that succeeds, raises one of these errors, or raises any
        error while the work is stuck; otherwise keeps it for those who do the work again."""
        try:
            yield
        except Exception as error:
            if self.is_stuck or isinstance(error, ends):
                self.remove()
            raise
        self.remove()


def _remove_old(directory: Path) -> None:
    remove_abandoned_in(directory)
    now = time.time()
    for path in directory.glob(_OURS):
        # Another process may have removed it.
        with suppress(OSError):
            if now - path.stat().st_mtime > _GIVEN_UP:
                path.unlink()
