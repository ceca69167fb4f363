from __future__ import annotations

from pathlib import Path
import subprocess
import sys

import pytest

from cbal_optuna import replaced_files
from cbal_optuna.replaced_files import remove_abandoned
from cbal_optuna.replaced_files import remove_abandoned_in
from cbal_optuna.replaced_files import replaced


KILLED = """
import os, signal, sys
from pathlib import Path
from cbal_optuna.replaced_files import replaced
with replaced(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""

unix = pytest.mark.skipif(sys.platform == "win32", reason="has neither SIGKILL nor such locks")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a [1].html"
    path.write_text("old")
    return path


def leftovers(path: Path) -> set[Path]:
    return set(path.parent.iterdir()) - {path}


def test_a_file_is_replaced_in_the_end(path: Path) -> None:
    with replaced(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and not leftovers(path)


def test_what_cannot_be_written_leaves_the_old_file(path: Path) -> None:
    with pytest.raises(OSError, match="full"), replaced(path) as part:
        part.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and not leftovers(path)


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with replaced(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


@unix
def test_the_next_writer_removes_what_a_killed_one_has_left(path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -9
    assert path.read_text() == "old" and len(leftovers(path)) == 1
    with replaced(path) as part:
        assert leftovers(path) == {part}


@unix
def test_what_is_being_written_is_not_removed(path: Path) -> None:
    with replaced(path) as part:
        remove_abandoned(path)
        remove_abandoned_in(path.parent)
        assert leftovers(path) == {part}


@unix
def test_what_is_removed_before_it_is_locked_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = replaced_files.fcntl.flock

    def lock_too_late(*arguments: object) -> None:
        monkeypatch.undo()
        (part,) = leftovers(path)
        part.unlink()
        lock(*arguments)

    monkeypatch.setattr(replaced_files.fcntl, "flock", lock_too_late)
    with replaced(path) as part:
        remove_abandoned(path)
        part.write_text("new")
    assert path.read_text() == "new"
