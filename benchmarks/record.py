"""Result files that say where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
import json
import os
from pathlib import Path
import platform
import sys
from typing import Any


RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("optuna", "torch", "timm", "numpy", "scikit-learn")


def write_record(path: Path, results: Any, peers: Sequence[str] = ()) -> None:
    """Write a JSON file, with the command, the machine, the versions and the date.

    Args:
        peers: Further packages whose versions matter.
    """
    script = Path(sys.argv[0]).name
    record = {
        "command": " ".join(["python", f"benchmarks/{script}", *map(_shown, sys.argv[1:])]),
        "date": date.today().isoformat(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in (*_PACKAGES, *peers)},
        },
        "results": results,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


def _shown(argument: str) -> str:
    """Without the folders of this machine."""
    return Path(argument).name if argument.startswith(os.sep) else argument


def _processor() -> str:
    """The processor's name on Linux, elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
