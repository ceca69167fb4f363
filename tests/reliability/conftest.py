from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def disasters(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``benchmarks/disasters.py``."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__("disasters")


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``benchmarks/killing.py``."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__("killing")
