"""A disk that is full: one sentence, nothing half-written, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from http.server import ThreadingHTTPServer
import os
from pathlib import Path
import shlex
import shutil
import subprocess
import sys
import threading

import optuna
from optuna.trial import TrialState
import pytest

from cbal_optuna.data.download import download
from cbal_optuna.data.download import extract_tar
from cbal_optuna.data.download import extract_zip
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.patience import StorageUnavailableError
from cbal_optuna.report import write_report
from cbal_optuna.storage import open_storage
from cbal_optuna.study import run_trials
from cbal_optuna.training import Checkpoints


Objectives = Callable[..., RetrievalObjective]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, but: int = 0) -> None:
    stat = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - but)))


def files(disk: Path) -> set[str]:
    return {path.name for path in disk.iterdir()}


def test_a_cache_without_room_names_the_folder(tiny_objective: Objectives, disk: Path) -> None:
    fill(disk)
    with pytest.raises(OSError, match=r"a cache file of .* has no room; `cache_directory`"):
        tiny_objective(cache_directory=disk).prepare()
    assert files(disk) == {"filling"}


def test_without_room_for_checkpoints_a_study_goes_on(
    tiny_objective: Objectives, disk: Path
) -> None:
    objective = tiny_objective(checkpoints=Checkpoints(disk, 1e-9), repeats=2)
    fill(disk)
    study = optuna.create_study(direction="maximize")
    with pytest.warns(UserWarning, match="cannot be written .*No space left on device"):
        run_trials(study, objective, 1)
    assert study.trials[0].state == TrialState.COMPLETE
    assert files(disk) == {"filling"}


@pytest.mark.parametrize("extract", [extract_tar, extract_zip])
def test_an_archive_without_room_leaves_nothing(
    disk: Path, tmp_path: Path, extract: Callable[..., None]
) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "image").write_bytes(bytes(4_000_000))
    kind = {extract_tar: "gztar", extract_zip: "zip"}[extract]
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), kind, tmp_path, "birds"))
    with pytest.raises(OSError, match="cannot be extracted: .*No space left on device"):
        extract(archive, disk / "birds", max_members=10, max_bytes=10**7)
    assert files(disk) == set()


def test_a_download_without_room_keeps_what_it_has(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(bytes(4_000_000))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_port}/archive"
        with pytest.raises(OSError, match="stopped at 2097152 of 4000000 .*No space left"):
            download(url, disk / "archive", size=4_000_000, md5="")
        server.shutdown()
    assert files(disk) == {"archive.part"}


def test_a_report_without_room_leaves_the_old_one(disk: Path) -> None:
    report = disk / "study.html"
    report.write_text("old")
    fill(disk, but=4096)
    with pytest.raises(OSError, match="study.html cannot be written: No space left on device"):
        write_report(report, optuna.create_study())
    assert report.read_text() == "old"
    assert files(disk) == {"study.html", "filling"}


def test_a_study_without_room_keeps_what_it_has(disk: Path) -> None:
    url = f"sqlite:///{disk}/study.db"
    study = optuna.create_study(storage=open_storage(url), study_name="full")

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 2:
            fill(disk)
        # More than the file and its log have room for, reused pages included.
        trial.set_user_attr("long", "x" * (trial.number // 2) * 200_000)
        return trial.number

    with pytest.raises(StorageUnavailableError, match="cannot be used: database or disk is full"):
        run_trials(study, objective, 10)
    (disk / "filling").unlink()
    kept = optuna.load_study(study_name="full", storage=open_storage(url))
    assert [t.value for t in kept.trials[:2]] == [0.0, 1.0]
    assert kept.trials[2].state == TrialState.RUNNING
    kept.optimize(lambda trial: 1.0, 1)


def test_a_command_says_it_in_one_sentence(disk: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "studies" / "digits.py"
    options = (
        "--head-only --backbone test_resnet --samples 512 --repeats 1 --n-trials 1 --confirm 0 "
        f"--report {disk}/digits.html --cache-dir {tmp_path}/cache"
    )
    fill(disk)
    ended = subprocess.run(
        [sys.executable, script, *shlex.split(options)],
        cwd=tmp_path,
        env={**os.environ, "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"digits.py: error: the report {disk}/digits.html cannot be written: "
        "No space left on device"
    ]
    trials = optuna.load_study(
        study_name="digits", storage=f"sqlite:///{tmp_path}/digits.db"
    ).trials
    assert [t.state for t in trials] == [TrialState.COMPLETE]
    assert files(disk) == {"filling"}
