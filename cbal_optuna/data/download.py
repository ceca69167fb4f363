"""Resumable, verified downloads and safe extraction of archives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
from http.client import HTTPException
from http.client import HTTPResponse
import os
from pathlib import Path
import re
import tarfile
import tempfile
from typing import cast
from urllib.error import HTTPError
from urllib.request import Request
from urllib.request import urlopen
import zipfile

from tqdm import tqdm


TIMEOUT = 60.0  # seconds without a byte
BLOCK = 2**20  # bytes


def download(url: str, path: Path, *, size: int, md5: str) -> None:
    """Download `url` to `path`, unless the right file is there already.

    The bytes go to ``<path>.part`` first, where an interrupted download goes on at the next call;
    `path` only ever appears complete. For one process at a time: two at once spoil the part file,
    which the checksum then finds.

    Args:
        url: Where to download from.
        path: The file to make, along with its folders.
        size: The expected number of bytes.
        md5: The expected MD5 checksum, hexadecimal.

    Raises:
        OSError: The file cannot be written, or the server cannot be reached, refuses, or breaks
            off; call again to resume.
        ValueError: The server's file has another size (what an earlier download brought is kept)
            or checksum (the part file is removed), or `path` exists already and is another file
            (it is left alone).
    """
    if path.exists():
        if _md5(path) != md5:
            raise ValueError(f"{path} is not the file that {url} should be, remove it first")
        return
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise OSError(
            f"the download of {url} cannot be written to {path.parent} ({error.strerror})"
        ) from error
    if part.stat().st_size != size:
        try:
            _fetch(url, part, size)
        except (OSError, HTTPException) as error:
            reason = str(error).strip().partition("\n")[0]
            raise OSError(
                f"the download of {url} stopped at {part.stat().st_size} of {size} bytes "
                f"({reason}), start it again to resume"
            ) from error
    if (actual := _md5(part)) != md5:
        part.unlink()
        raise ValueError(f"the file at {url} must have MD5 {md5}, got {actual}: removed")
    part.replace(path)


def _fetch(url: str, part: Path, size: int) -> None:
    """Bring `part` to its full size."""
    offset = part.stat().st_size
    with _request(url, offset) as response:
        # Without this header the server ignored the range and sends the file from its beginning.
        content_range = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        done = int(content_range[1]) if content_range else 0
        if response.length is not None and done + response.length != size:
            # Some networks answer in the server's place, with a page to log in.
            if not offset:
                part.unlink()
            raise _wrong_size(url, done + response.length, size)
        bar = tqdm(
            total=size, initial=done, unit="B", unit_scale=True, desc=part.stem, disable=None
        )
        with bar, part.open("r+b") as file:
            file.truncate(done)
            file.seek(done)
            while done <= size and (block := response.read(BLOCK)):
                file.write(block)
                bar.update(len(block))
                done += len(block)
    if done < size:
        raise ConnectionError("the server broke off")
    if done > size:
        part.unlink()
        raise _wrong_size(url, done, size)


def _request(url: str, offset: int) -> HTTPResponse:
    headers = {"User-Agent": "cbal-optuna"}
    resume = {"Range": f"bytes={offset}-"} if offset else {}
    try:
        response = urlopen(Request(url, headers=headers | resume), timeout=TIMEOUT)
    except HTTPError as error:
        if not offset or error.code != 416:
            raise
        # The part reaches beyond the server's file, so it cannot be a part of it.
        error.close()
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    return cast(HTTPResponse, response)


def _wrong_size(url: str, actual: int, size: int) -> ValueError:
    return ValueError(f"the file at {url} must have {size} bytes, got {actual}")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def extract_tar(archive: Path, destination: Path, *, max_members: int, max_bytes: int) -> None:
    """Extract the folder of an archive that is called like `destination`, as `destination`.

    It appears complete or not at all. Members outside of that folder are left out. That the
    contents are right is for the checksum to say, see `download`.

    Args:
        archive: A tar file, compressed or not.
        destination: The folder to make; its parent must exist.
        max_members: More files and folders than this are refused.
        max_bytes: More extracted bytes than this are refused.

    Raises:
        FileExistsError: `destination` is there already.
        ValueError: The archive cannot be read, is too large, lacks the folder, or holds a path
            that leads out of it, a link or a device.
        OSError: A member cannot be written.
        RuntimeError: This Python's tarfile has no extraction filters.
    """
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("safe extraction needs Python 3.10.12, 3.11.4 or newer")
    with _appearing(archive, destination) as temporary, tarfile.open(archive) as tar:
        tar.extractall(temporary, members=_checked(tar, max_members, max_bytes), filter="data")


def extract_zip(archive: Path, destination: Path, *, max_members: int, max_bytes: int) -> None:
    """The same for a zip file: see `extract_tar`. Links in it become files.

    Raises:
        FileExistsError: `destination` is there already.
        ValueError: The archive cannot be read, is too large, lacks the folder, or holds a path
            that leads out of it.
        OSError: A member cannot be written.
    """
    with _appearing(archive, destination) as temporary, zipfile.ZipFile(archive) as file:
        members = file.infolist()
        size = sum(member.file_size for member in members)
        if len(members) > max_members or size > max_bytes:
            raise ValueError(f"it holds more than {max_members} members or {max_bytes} bytes")
        for member in members:
            if member.filename.startswith("/") or ".." in member.filename.split("/"):
                raise ValueError(f"{member.filename!r} leads out of it")
        file.extractall(temporary, members)


@contextmanager
def _appearing(archive: Path, destination: Path) -> Iterator[str]:
    """A temporary folder to extract to, of which `destination` is taken when all went well."""
    if destination.exists():
        raise FileExistsError(f"{destination} exists already, move it away to extract {archive}")
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".extracting-") as temporary:
        try:
            yield temporary
        # The disk is full, or two members cannot both be there.
        except OSError as error:
            raise OSError(f"{archive} cannot be extracted: {error}") from error
        # Damage, encryption and rare compressions raise errors of many kinds, IndexError among
        # them.
        except Exception as error:
            raise ValueError(f"{archive} cannot be extracted: {error}") from error
        folder = Path(temporary, destination.name)
        if not folder.is_dir():
            raise ValueError(f"{archive} must hold a folder {destination.name}, but has none")
        os.rename(folder, destination)


def _checked(tar: tarfile.TarFile, max_members: int, max_bytes: int) -> Iterator[tarfile.TarInfo]:
    """The members, as long as they are harmless where the "data" filter does not look.

    Links are refused altogether: no data set here has one, and the filter's own checks of links
    could be evaded in several releases of Python (CVE-2025-4517 and others).
    """
    size = 0
    for count, member in enumerate(tar, start=1):
        if not (member.isreg() or member.isdir()):
            raise ValueError(f"{member.name!r} is neither a file nor a folder")
        size += member.size
        if count > max_members or size > max_bytes:
            raise ValueError(f"it holds more than {max_members} members or {max_bytes} bytes")
        yield member
