"""Whatever an archive holds: its folder and nothing beside it, or one sentence and nothing."""

from __future__ import annotations

from collections.abc import Callable
import io
import os
from pathlib import Path
import stat
import tarfile
import tempfile
import zipfile

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from cbal_optuna.data.download import extract_tar
from cbal_optuna.data.download import extract_zip


MANY = settings.get_profile("any input")
LIMITS = {"max_members": 6, "max_bytes": 10_000}
SECRET = "secret"

PARTS = [*["birds"] * 3, "..", ".", "", "a", "A", "a\\..\\b", "C:", "x" * 300, "é", "\ufb01"]
PARTS += ["a\nb", "\x1b[2J", "<script>", "\udcff", "con", SECRET, ".extracting-x", "a\0b"]
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join)
CONTENTS = st.binary(max_size=50) | st.integers(0, 20_000).map(bytes)
KINDS = st.sampled_from(
    [*[tarfile.REGTYPE] * 6, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE]
    + [tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE, b"?"]
)
TARGETS = NAMES | st.sampled_from([f"../{SECRET}", f"../../{SECRET}", "/etc/passwd", "..", "/"])
MEMBERS = st.lists(
    st.tuples(NAMES, CONTENTS, KINDS, TARGETS, st.integers(0, 0o7777), st.integers(-1, 2**34)),
    max_size=4,
)


def written_to_the_root() -> set[str]:
    return {*os.listdir("/")} & {*PARTS}


def tar_of(members: list[tuple[str, bytes, bytes, str, int, int]], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{mode}") as tar:
        for name, content, kind, target, permissions, time in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, permissions
            member.mtime, member.size = time, len(content) if kind == tarfile.REGTYPE else 0
            member.uid = member.gid = 12_345
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zip_of(members: list[tuple[str, bytes, bytes, str, int, int]], mode: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", mode) as archive:
        for name, content, kind, target, permissions, _ in members:
            member = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            member.compress_type = mode
            is_link = kind == tarfile.SYMTYPE
            member.external_attr = ((stat.S_IFLNK if is_link else 0) | permissions) << 16
            archive.writestr(member, target.encode("utf-8", "replace") if is_link else content)
    return file.getvalue()


TARS = st.builds(tar_of, MEMBERS, st.sampled_from(["", "gz", "xz", "bz2"]))
ZIPS = st.builds(zip_of, MEMBERS, st.sampled_from([0, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))


@st.composite
def damaged(draw: st.DrawFn, archives: st.SearchStrategy[bytes]) -> bytes:
    content = draw(archives)
    start = draw(st.integers(0, len(content)))
    if draw(st.booleans()):
        return content[:start]
    end = start + draw(st.integers(0, 20))
    return content[:start] + draw(st.binary(max_size=20)) + content[end:]


@MANY
@given(data=st.data(), extract=st.sampled_from([extract_tar, extract_zip]))
def test_an_archive_is_its_folder_or_a_sentence(
    data: st.DataObject, extract: Callable[..., None]
) -> None:
    whole = TARS if extract is extract_tar else ZIPS
    content = data.draw(whole | damaged(whole) | st.binary(max_size=60))
    with tempfile.TemporaryDirectory() as place:
        archive, folder = Path(place, "a.archive"), Path(place, "data", "birds")
        archive.write_bytes(content)
        folder.parent.mkdir()
        secret = Path(place, SECRET)
        secret.write_text("untouched")
        outside = {*os.listdir(place), *written_to_the_root()}
        try:
            extract(archive, folder, **LIMITS)
        except (ValueError, OSError) as error:
            assert str(archive) in str(error)
            assert list(folder.parent.iterdir()) == []
        else:
            assert list(folder.parent.iterdir()) == [folder]
            found = list(folder.rglob("*"))
            assert all(p.is_dir() or p.is_file() for p in found)
            assert not any(p.is_symlink() or p.stat().st_nlink > 1 for p in found if p.is_file())
            assert not any(p.stat().st_mode & 0o6000 for p in found)
            assert sum(p.stat().st_size for p in found if p.is_file()) <= LIMITS["max_bytes"]
        assert {*os.listdir(place), *written_to_the_root()} == outside
        assert secret.read_text() == "untouched"
