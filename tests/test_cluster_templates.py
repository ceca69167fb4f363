"""The templates for clusters: their syntax, and that the studies have the options they give."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import runpy
import subprocess
from typing import Any

import pytest

from cbal_optuna.command_line.options import parser_of


STUDIES = Path(__file__).parents[1] / "studies"
SBATCH = STUDIES / "cluster" / "slurm.sbatch"
JOB = STUDIES / "cluster" / "kubernetes.yaml"
GIVEN = {
    "CBAL_STORAGE": "postgresql://me@host/studies",
    "CBAL_DATA": "/shared/my birds",
    "CBAL_WORK": "/shared/work",
}


def options_of(command: list[str]) -> argparse.Namespace:
    """Of a study's command."""
    python, script, *arguments = command
    assert python == "python"
    return parser_of(runpy.run_path(str(STUDIES.parent / script))["SCRIPT"]).parse_args(arguments)


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of an array's task, where ``srun`` says what it is to run."""
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    srun.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "8"}


def test_the_array_has_the_options_of_a_worker_that_may_be_preempted() -> None:
    lines = SBATCH.read_text().splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    # Behind the first command they are not read.
    assert lines.index(directives[-1]) < lines.index("set -euo pipefail")
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name in ("job-name", "array", "mem", "time", "signal", "open-mode", "output"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("ntasks", "gpus-per-task", "cpus-per-task"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--requeue", action="store_true")
    options = parser.parse_args([line.split()[1] for line in directives])
    assert options.requeue and options.open_mode == "append"
    assert (options.ntasks, options.gpus_per_task) == (1, 1)
    # A log of each task.
    assert {"%A", "%a"} <= {options.output[i : i + 2] for i in range(len(options.output))}


def test_a_task_of_the_array_has_all_its_cores(cluster: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "srun").write_text("#!/bin/bash\necho $OMP_NUM_THREADS $SRUN_CPUS_PER_TASK\n")
    ended = subprocess.run(["bash", SBATCH], env={**cluster, **GIVEN}, capture_output=True)
    assert ended.stdout == b"8 8\n"


def test_the_array_has_the_syntax_of_a_shell() -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)


def test_a_task_of_the_array_joins_the_study(cluster: dict[str, str]) -> None:
    printed = subprocess.run(
        ["bash", SBATCH], env={**cluster, **GIVEN}, check=True, capture_output=True, text=True
    ).stdout
    options = options_of(printed.splitlines())
    assert (options.storage, options.workers) == (GIVEN["CBAL_STORAGE"], 1)
    assert options.root == Path(GIVEN["CBAL_DATA"])
    assert options.checkpoint_dir == Path("/shared/work/checkpoints")
    assert options.report == Path("/shared/work/cub200-3.html")


@pytest.mark.parametrize("missing", GIVEN)
def test_a_task_without_its_places_says_which(cluster: dict[str, str], missing: str) -> None:
    given = {name: value for name, value in GIVEN.items() if name != missing}
    ended = subprocess.run(
        ["bash", SBATCH], env={**cluster, **given}, capture_output=True, text=True
    )
    assert ended.returncode != 0 and ended.stdout == "" and missing in ended.stderr


@pytest.fixture
def job() -> dict[str, Any]:
    (document,) = pytest.importorskip("yaml").safe_load_all(JOB.read_text())
    return dict(document)


def test_the_job_is_one_of_many_equal_workers(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] > 1
    # Which `podFailurePolicy` and `backoffLimitPerIndex` ask for.
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and spec["backoffLimitPerIndex"] > 0
    (container,) = pod["containers"]
    exits = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert exits["containerName"] == container["name"]
    assert container["image"] and container["resources"]["limits"]["nvidia.com/gpu"] == 1
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_a_pod_of_the_job_joins_the_study(job: dict[str, Any]) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    names = {variable["name"] for variable in container["env"]}
    command = [str(word) for word in container["command"]]
    used = {word.partition("$(")[2].partition(")")[0] for word in command if "$(" in word}
    assert used == names
    options = options_of(command)
    assert (options.storage, options.workers) == ("$(CBAL_STORAGE)", 1)
    (mount,) = container["volumeMounts"]
    for path in (options.root, options.cache_dir, options.checkpoint_dir, options.report):
        assert path.is_relative_to(mount["mountPath"])


def test_no_password_is_in_the_job(job: dict[str, Any]) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    storage = next(v for v in container["env"] if v["name"] == "CBAL_STORAGE")
    assert set(storage) == {"name", "valueFrom"} and "secretKeyRef" in storage["valueFrom"]
