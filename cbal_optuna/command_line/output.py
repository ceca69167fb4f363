"""Folders that a command line names."""

from __future__ import annotations

import os
from pathlib import Path


def made_folder(path: Path) -> Path:
    """That of ``--output``, made if need be.

    Raises:
        ValueError: It cannot be made or written to.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"`--output` is {str(path)!r}, which cannot be made: {error}") from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"`--output` is {str(path)!r}; it should be a folder to write to.")
    return path
