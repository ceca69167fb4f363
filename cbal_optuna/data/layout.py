"""What official layouts have in common: a folder to be found, lists to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import os
from pathlib import Path


def missing_in(folder: Path, contents: Sequence[str]) -> list[str]:
    """Those of the files and folders `contents` that `folder` does not have."""
    return [name for name in contents if not (folder / name).exists()]


def find_folder(
    root: Path, *inner: str, contents: Sequence[str], data_set: str, source: str
) -> Path:
    """`root`, or the first of its folders `inner`, that has all `contents`.

    Args:
        root: Where to look.
        inner: Names under which `root` may hold the data set.
        contents: Files and folders of the data set.
        data_set: Its name, for the message.
        source: Where to get it, for the message.

    Raises:
        FileNotFoundError: None of the folders has all contents.
    """
    folders = [root, *(root / name for name in inner)]
    folder = min(folders, key=lambda folder: len(missing_in(folder, contents)))
    if missing := missing_in(folder, contents):
        raise FileNotFoundError(
            f"`root` must be the folder of {data_set} or the one that holds it as "
            f"{' or '.join(inner)}, but {folder} has no {', '.join(missing)}: {source}"
        )
    return folder


def read_table(path: Path, columns: Sequence[str], *, header: int = 1) -> list[list[str]]:
    """The rows of a table whose columns are separated by white space.

    Args:
        path: A text file.
        columns: Names of the columns, as the header has them.
        header: Number of the line with the header; the rows are below it.

    Raises:
        ValueError: The header is another one, or a line has more or fewer columns.
    """
    lines = text_lines(path)
    names = lines[header - 1] if len(lines) >= header else ""
    if names.split() != list(columns):
        raise ValueError(f"line {header} of {path} must be `{' '.join(columns)}`, got {names!r}")
    rows = []
    for number, line in enumerate(lines[header:], start=header + 1):
        row = line.split()
        if row and len(row) != len(columns):
            fields = " ".join(f"<{name}>" for name in columns)
            raise ValueError(f"line {number} of {path} must be `{fields}`, got {line!r}")
        if row:
            rows.append(row)
    return rows


def text_lines(path: Path) -> list[str]:
    """Those of a text file. Names of files need not be UTF-8."""
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def check_images(root: Path, paths: Sequence[str], listed_in: Path) -> None:
    """See that all images are there, by one listing of each folder, not a question for each image.

    Args:
        root: The folder that `paths` start from.
        paths: Relative path of every image.
        listed_in: The file that lists them, for messages.

    Raises:
        FileNotFoundError: Some images are missing.
        ValueError: An image is listed twice, or is not below `root`.
    """
    for path in paths:
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise ValueError(f"{listed_in} must list images in {root}, got {path!r}")
    if len(set(paths)) < len(paths):
        path, count = Counter(paths).most_common(1)[0]
        raise ValueError(f"{listed_in} must list every image once, got {path} {count} times")
    present = {
        f"{folder}/{name}" if folder else name
        for folder in {os.path.dirname(path) for path in paths}
        if (root / folder).is_dir()
        for name in os.listdir(root / folder)
    }
    missing = [path for path in paths if path not in present]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(paths)} images listed in {listed_in} are missing in "
            f"{root}, the first ones are {', '.join(missing[:5])}"
        )


def name_of(official: str, folder: Path, n_images: int, *, whole: bool) -> str:
    """What to call a data set: a part of it must not be taken for the whole."""
    return official if whole else f"{folder.name}_{n_images}_images"
