from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import runpy
import sys

import pytest


STUDIES = Path(__file__).parents[2] / "studies"

# A study of a moment.
QUICK = """
data: digits
backbone: test_resnet
head-only: true
samples: 512
repeats: 1
confirm: 0
n-trials: 2
"""


@pytest.fixture
def run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a text as a study file: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))

    def run(text: str, *arguments: str) -> tuple[int, str, str]:
        Path("study.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["run.py", "study.yaml", *arguments])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(STUDIES / "run.py"), run_name="__main__")
        return int(exit.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def quick() -> str:
    return QUICK
