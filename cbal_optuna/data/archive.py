"""Data sets that come as one archive with one folder: found, or downloaded and unpacked."""

from __future__ import annotations

from dataclasses import dataclass
import os
from pathlib import Path

from cbal_optuna.data.download import download as download_file
from cbal_optuna.data.download import extract_tar
from cbal_optuna.data.layout import find_folder
from cbal_optuna.data.layout import missing_in


@dataclass(frozen=True)
class Archive:
    """Where a data set comes from and what it looks like unpacked.

    Args:
        title: What people call the data set.
        folder: The folder in the archive.
        contents: What must be in the folder.
        url, size, md5: Of the archive; size in bytes.
        max_members, max_bytes: More than this is not unpacked.
    """

    title: str
    folder: str
    contents: tuple[str, ...]
    url: str
    size: int
    md5: str
    max_members: int = 20
    max_bytes: int = 4 * 2**30

    def located(self, root: str | os.PathLike[str], *, download: bool) -> Path:
        """The folder of the data set: `root`, or the one in it.

        Args:
            root: The folder itself or the one around it.
            download: Whether to download and unpack into `root` where it is missing.

        Raises:
            FileNotFoundError: It is missing, or incomplete.
            FileExistsError: The download finds an incomplete folder in its place.
            ValueError: What was downloaded is not the known archive.
            OSError: The download stopped; the next one goes on from there.
        """
        parent = Path(os.path.abspath(root))
        inside = parent / self.folder
        if download and all(missing_in(folder, self.contents) for folder in (parent, inside)):
            self._download(inside)
        return find_folder(
            parent,
            self.folder,
            contents=self.contents,
            data_set=self.title,
            source=f"download it with download=True (--download) or from {self.url}",
        )

    def _download(self, folder: Path) -> None:
        if folder.exists():
            missing = ", ".join(missing_in(folder, self.contents))
            raise FileExistsError(
                f"{folder} is there but has no {missing}: move it away to download"
            )
        archive = folder.with_name(f"{self.folder}.tgz")
        download_file(self.url, archive, size=self.size, md5=self.md5)
        extract_tar(archive, folder, max_members=self.max_members, max_bytes=self.max_bytes)
