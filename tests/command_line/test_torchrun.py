"""Studies whose trainings are shared by the processes of torchrun."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import optuna
import pytest
from torch import distributed


pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch.distributed has no gloo",
)

DIGITS = Path(__file__).parents[2] / "studies" / "digits.py"
OPTIONS = (
    "--head-only --backbone test_resnet --samples 256 --batch-sizes 16 32 --n-trials 3 "
    "--confirm 1 --report out.html --cache-dir cache"
).split()


def torchrun(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(DIGITS), *OPTIONS, *options]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200
    )


def test_processes_share_each_training_of_one_study(tmp_path: Path) -> None:
    done = torchrun(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("According to all trials together") == 1
    storage = f"sqlite:///{tmp_path / 'digits.db'}"
    trials = optuna.load_study(study_name="digits", storage=storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    fresh = optuna.load_study(study_name="digits.validation", storage=storage).trials
    assert len(fresh) == 2


def test_without_torchrun_its_variable_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DIGITS), *OPTIONS],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "WORLD_SIZE": "2",
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "error: $WORLD_SIZE is set, but" in done.stderr


def test_workers_do_not_share_trainings_too(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "--workers", "2")
    assert done.returncode != 0
    assert "error: `--workers` is 2; it should not be given where torchrun" in done.stderr
    assert not (tmp_path / "digits.db").exists()
