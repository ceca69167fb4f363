from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import gzip
import hashlib
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import io
from pathlib import Path
import tarfile
import threading
import zipfile

import pytest

from cbal_optuna.data import CUB200
from cbal_optuna.data import cub200
from cbal_optuna.data import Omniglot
from cbal_optuna.data import omniglot
from cbal_optuna.data.download import download
from cbal_optuna.data.download import extract_tar
from cbal_optuna.data.download import extract_zip


CONTENT = bytes(range(256)) * 1000
SIZE = len(CONTENT)
MD5 = hashlib.md5(CONTENT).hexdigest()
LIMITS = {"max_members": 100, "max_bytes": 10**6}


class Server(ThreadingHTTPServer):
    """Serves `content` at every address; the flags make it misbehave."""

    content = CONTENT
    ranges = True
    length = True
    break_off_after: int | None = None
    error: int | None = None
    moved_to: str | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/archive.tgz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requested.append(wanted)
        if server.moved_to not in (None, self.path):
            self.send_response(302)
            self.send_header("Location", str(server.moved_to))
            self.end_headers()
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and server.ranges else 0
        if server.error or start >= len(server.content):
            self.send_error(server.error or 416)
            return
        self.send_response(206 if start else 200)
        if start:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
        if server.length:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.break_off_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "archive.tgz"


@pytest.fixture
def part(path: Path) -> Path:
    """Where the part file goes; its folder is there already."""
    path.parent.mkdir()
    return path.with_name("archive.tgz.part")


def fetch(server: Server, path: Path) -> None:
    download(server.url, path, size=SIZE, md5=MD5)


# Downloads


def test_download_arrives_complete(server: Server, path: Path) -> None:
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_second_download_asks_nobody(server: Server, path: Path) -> None:
    fetch(server, path)
    fetch(server, path)
    assert server.requested == [None]


def test_interrupted_download_goes_on_where_it_stopped(
    server: Server, path: Path, part: Path
) -> None:
    server.break_off_after = 100_000
    with pytest.raises(OSError, match=r"stopped at 100000 of 256000 bytes .* to resume"):
        fetch(server, path)
    assert not path.exists()
    assert part.read_bytes() == CONTENT[:100_000]
    server.break_off_after = None
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requested == [None, "bytes=100000-"]


def test_interruption_without_a_content_length_is_noticed(server: Server, path: Path) -> None:
    server.length = False
    server.break_off_after = 100_000
    with pytest.raises(OSError, match="stopped at 100000 of 256000 bytes"):
        fetch(server, path)


def test_download_goes_on_at_the_address_that_the_file_has_moved_to(
    server: Server, path: Path, part: Path
) -> None:
    part.write_bytes(CONTENT[:100_000])
    server.moved_to = "/elsewhere"
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requested == ["bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "/archive.tgz#in-a-circle"])
def test_address_that_leads_nowhere_is_one_line(server: Server, path: Path, target: str) -> None:
    server.moved_to = target
    with pytest.raises(OSError, match="stopped at 0 of 256000 bytes .HTTP Error 302") as caught:
        fetch(server, path)
    assert "\n" not in str(caught.value)


def test_server_that_ignores_the_range_sends_everything_again(
    server: Server, path: Path, part: Path
) -> None:
    part.write_bytes(CONTENT[:100_000])
    server.ranges = False
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_complete_part_needs_no_request(server: Server, path: Path, part: Path) -> None:
    part.write_bytes(CONTENT)
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requested == []


def test_part_beyond_the_end_is_fetched_anew(server: Server, path: Path, part: Path) -> None:
    part.write_bytes(CONTENT + b"too much")
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requested == ["bytes=256008-", None]


@pytest.mark.parametrize("damaged", [b"x" + CONTENT[1:], b"x" + CONTENT[1:100_000]])
def test_damaged_part_is_removed_and_the_next_download_works(
    server: Server, path: Path, part: Path, damaged: bytes
) -> None:
    part.write_bytes(damaged)
    with pytest.raises(ValueError, match=f"must have MD5 {MD5}"):
        fetch(server, path)
    assert list(path.parent.iterdir()) == []
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_file_with_a_wrong_checksum_is_removed(server: Server, path: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(ValueError, match=f"must have MD5 {MD5}, got"):
        fetch(server, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("length", [True, False])
def test_file_that_is_too_large_is_refused(server: Server, path: Path, length: bool) -> None:
    server.content = CONTENT + b"more"
    server.length = length
    with pytest.raises(ValueError, match="must have 256000 bytes, got 256004"):
        fetch(server, path)
    assert list(path.parent.iterdir()) == []


def test_endless_file_is_not_read_to_its_end(server: Server, path: Path) -> None:
    server.content = CONTENT * 50
    server.length = False
    with pytest.raises(ValueError, match="must have 256000 bytes, got 1048576"):
        fetch(server, path)


def test_file_that_is_too_small_is_refused(server: Server, path: Path) -> None:
    server.content = b"<html>moved</html>"
    with pytest.raises(ValueError, match="must have 256000 bytes, got 18"):
        fetch(server, path)
    assert list(path.parent.iterdir()) == []


def test_page_in_the_place_of_the_file_keeps_the_part(
    server: Server, path: Path, part: Path
) -> None:
    part.write_bytes(CONTENT[:100_000])
    server.ranges, server.content = False, b"<html>log in</html>"
    with pytest.raises(ValueError, match="must have 256000 bytes, got 19"):
        fetch(server, path)
    assert part.read_bytes() == CONTENT[:100_000]


@pytest.mark.parametrize("error", [404, 503])
def test_refusal_is_reported_and_keeps_the_part(
    server: Server, path: Path, part: Path, error: int
) -> None:
    part.write_bytes(CONTENT[:100])
    server.error = error
    with pytest.raises(OSError, match=f"HTTP Error {error}"):
        fetch(server, path)
    assert part.read_bytes() == CONTENT[:100]


def test_silent_server_does_not_hang_the_download(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbal_optuna.data.download.TIMEOUT", 0.05)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:
        url = f"http://127.0.0.1:{silent.server_port}/"
        with pytest.raises(OSError, match="stopped at 0 of 256000 bytes .*timed out"):
            download(url, path, size=SIZE, md5=MD5)


def test_file_in_the_place_of_the_folder_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(OSError, match="archive.tgz cannot be written to .*mine .File exists"):
        fetch(server, tmp_path / "mine" / "archive.tgz")
    assert server.requested == []


@pytest.mark.parametrize("other", [b"mine", CONTENT[::-1]])
def test_other_file_in_the_way_is_left_alone(server: Server, path: Path, other: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(other)
    with pytest.raises(ValueError, match="archive.tgz is not the file that"):
        fetch(server, path)
    assert path.read_bytes() == other


# Extraction


def file_member(name: str, content: bytes = b"content") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special_member(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member, b""


def write_archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


def test_folder_of_the_archive_is_extracted(tmp_path: Path) -> None:
    archive = write_archive(
        tmp_path / "a.tgz", file_member("birds/x/1.txt"), file_member("attributes.txt")
    )
    extract_tar(archive, tmp_path / "birds", **LIMITS)
    assert (tmp_path / "birds/x/1.txt").read_bytes() == b"content"
    assert {path.name for path in tmp_path.iterdir()} == {"a.tgz", "birds"}


@pytest.mark.parametrize(
    "evil",
    [
        file_member("../evil.txt"),
        file_member("birds/../../evil.txt"),
        special_member("birds/evil.txt", tarfile.SYMTYPE, "/etc/passwd"),
        special_member("birds/evil.txt", tarfile.SYMTYPE, "../../secret"),
        special_member("birds/evil.txt", tarfile.SYMTYPE, "fine.txt"),
        special_member("birds/evil.txt", tarfile.LNKTYPE, "birds/fine.txt"),
        special_member("birds/evil.txt", tarfile.CHRTYPE),
        special_member("birds/evil.txt", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member[0].name}-{member[0].type.decode()}-{member[0].linkname}",
)
def test_dangerous_member_is_refused_and_nothing_left(
    tmp_path: Path, evil: tuple[tarfile.TarInfo, bytes]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    archive = write_archive(tmp_path / "a.tgz", file_member("birds/fine.txt"), evil)
    with pytest.raises(ValueError, match="a.tgz cannot be extracted: .*evil.txt"):
        extract_tar(archive, folder / "birds", **LIMITS)
    assert list(folder.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.tgz", "data"}


def test_absolute_path_stays_within(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    archive = write_archive(
        tmp_path / "a.tgz", file_member("birds/1.txt"), file_member(str(outside))
    )
    extract_tar(archive, tmp_path / "birds", **LIMITS)
    assert not outside.exists()


@pytest.mark.parametrize("limits", [{"max_members": 2}, {"max_bytes": 20}])
def test_archive_that_is_too_large_is_refused(tmp_path: Path, limits: dict[str, int]) -> None:
    members = [file_member(f"birds/{number}.txt") for number in range(3)]
    archive = write_archive(tmp_path / "a.tgz", *members)
    with pytest.raises(ValueError, match="holds more than"):
        extract_tar(archive, tmp_path / "birds", **LIMITS | limits)
    assert list(tmp_path.iterdir()) == [archive]
    extract_tar(archive, tmp_path / "birds", max_members=3, max_bytes=21)


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_truncated_archive_is_named_and_nothing_left(tmp_path: Path, share: float) -> None:
    content = hashlib.shake_256(b"noise").digest(50_000)
    archive = write_archive(tmp_path / "a.tgz", file_member("birds/1.txt", content))
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(ValueError, match="a.tgz cannot be extracted"):
        extract_tar(archive, tmp_path / "birds", **LIMITS)
    assert list(tmp_path.iterdir()) == [archive]


def test_unreadable_archive_is_named_and_nothing_left(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tgz", file_member("birds/1.txt", CONTENT))
    unpacked = gzip.decompress(archive.read_bytes())
    with archive.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb") as packer:
        packer.write(unpacked[:100_000])
        packer.flush()
        file.write(b"\xff")  # not a block of any known type
    with pytest.raises(ValueError, match="a.tgz cannot be extracted"):
        extract_tar(archive, tmp_path / "birds", **LIMITS)
    assert list(tmp_path.iterdir()) == [archive]


def test_archive_without_the_folder_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tgz", file_member("cars/1.txt"))
    with pytest.raises(ValueError, match="must hold a folder birds"):
        extract_tar(archive, tmp_path / "birds", **LIMITS)


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tgz", file_member("birds/1.txt"))
    (tmp_path / "birds").mkdir()
    with pytest.raises(FileExistsError, match="birds exists already"):
        extract_tar(archive, tmp_path / "birds", **LIMITS)
    assert list((tmp_path / "birds").iterdir()) == []


def test_python_without_extraction_filters_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(RuntimeError, match=r"needs Python 3\.10\.12"):
        extract_tar(tmp_path / "a.tgz", tmp_path / "birds", **LIMITS)


# Extraction of zip files


def write_zip(path: Path, **contents: bytes | str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def test_folder_of_the_zip_is_extracted(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", **{"birds/x/1.txt": "content", "__MACOSX/x": "junk"})
    extract_zip(archive, tmp_path / "birds", **LIMITS)
    assert (tmp_path / "birds/x/1.txt").read_text() == "content"
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "birds"}


@pytest.mark.parametrize("evil", ["../evil.txt", "birds/../../evil.txt", "/evil.txt"])
def test_zip_that_leads_out_of_itself_is_refused(tmp_path: Path, evil: str) -> None:
    archive = write_zip(tmp_path / "a.zip", **{"birds/1.txt": "fine", evil: "evil"})
    with pytest.raises(ValueError, match="a.zip cannot be extracted: .*evil.txt"):
        extract_zip(archive, tmp_path / "birds", **LIMITS)
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("limits", [{"max_members": 2}, {"max_bytes": 20}])
def test_zip_that_is_too_large_is_refused(tmp_path: Path, limits: dict[str, int]) -> None:
    archive = write_zip(tmp_path / "a.zip", **{f"birds/{i}.txt": "content" for i in range(3)})
    with pytest.raises(ValueError, match="holds more than"):
        extract_zip(archive, tmp_path / "birds", **LIMITS | limits)
    assert list(tmp_path.iterdir()) == [archive]
    extract_zip(archive, tmp_path / "birds", max_members=3, max_bytes=21)


@pytest.mark.parametrize("damage", ["cut off", "no zip", "a wrong byte"])
def test_damaged_zip_is_named_and_nothing_left(tmp_path: Path, damage: str) -> None:
    archive = write_zip(tmp_path / "a.zip", **{"birds/1.txt": hashlib.shake_256(b"").digest(999)})
    content = bytearray(archive.read_bytes())
    content[500] ^= 1
    damaged = {"cut off": content[:700], "no zip": b"<html>", "a wrong byte": content}[damage]
    archive.write_bytes(damaged)
    with pytest.raises(ValueError, match="a.zip cannot be extracted"):
        extract_zip(archive, tmp_path / "birds", **LIMITS)
    assert list(tmp_path.iterdir()) == [archive]


# CUB-200-2011 from the server to the images


@pytest.fixture
def cub_server(
    server: Server,
    make_cub: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Server:
    archive = tmp_path / "original.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(make_cub("source"), "CUB_200_2011")
        tar.addfile(*file_member("attributes.txt")[:1], io.BytesIO(b"content"))
    server.content = archive.read_bytes()
    monkeypatch.setattr(cub200, "URL", server.url)
    monkeypatch.setattr(cub200, "SIZE", len(server.content))
    monkeypatch.setattr(cub200, "MD5", hashlib.md5(server.content).hexdigest())
    return server


def test_cub_is_downloaded_once(cub_server: Server, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for _ in range(2):
        data = CUB200(root, download=True)
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.image(4).getpixel((0, 0)) == (4, 4, 4)
    assert cub_server.requested == [None]
    assert {path.name for path in root.iterdir()} == {"CUB_200_2011", "CUB_200_2011.tgz"}


def test_cub_is_not_downloaded_unasked(cub_server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="download=True"):
        CUB200(tmp_path / "data")
    assert cub_server.requested == []


def test_cub_that_is_there_is_not_downloaded(cub_server: Server, tmp_path: Path) -> None:
    CUB200(tmp_path / "source", download=True)
    assert cub_server.requested == []


def test_incomplete_cub_folder_stops_the_download(cub_server: Server, tmp_path: Path) -> None:
    (tmp_path / "data" / "CUB_200_2011" / "images").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="CUB_200_2011 is there but has no classes.txt"):
        CUB200(tmp_path / "data", download=True)
    assert cub_server.requested == []


# Omniglot from the server to the images


@pytest.fixture
def omniglot_server(
    server: Server,
    make_omniglot: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Server:
    """It has one archive, of both parts, under both names."""
    source = make_omniglot()
    files = {str(p.relative_to(source)): p.read_bytes() for p in source.rglob("*.png")}
    server.content = write_zip(tmp_path / "original.zip", **files).read_bytes()
    archive = (len(server.content), hashlib.md5(server.content).hexdigest())
    monkeypatch.setattr(omniglot, "URL", server.url)
    monkeypatch.setattr(omniglot, "ARCHIVES", dict.fromkeys(omniglot.ARCHIVES, archive))
    return server


def test_omniglot_is_downloaded_once(omniglot_server: Server, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for _ in range(2):
        data = Omniglot(root, download=True)
    assert len(data) == 12
    assert data.image(4).getpixel((0, 0)) == (4, 4, 4)
    assert omniglot_server.requested == [None, None]
    assert sorted(path.name for path in root.iterdir()) == [
        "images_background",
        "images_background.zip",
        "images_evaluation",
        "images_evaluation.zip",
    ]


def test_omniglot_that_is_there_is_not_downloaded(omniglot_server: Server, tmp_path: Path) -> None:
    Omniglot(tmp_path / "omniglot", download=True)
    assert omniglot_server.requested == []


def test_omniglot_that_changed_is_refused(omniglot_server: Server, tmp_path: Path) -> None:
    omniglot_server.content = omniglot_server.content[:-1] + b"x"
    with pytest.raises(ValueError, match="must have MD5"):
        Omniglot(tmp_path / "data", download=True)
    assert list((tmp_path / "data").iterdir()) == []
