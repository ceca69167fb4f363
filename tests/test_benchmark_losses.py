"""How ``benchmarks/losses.py`` compares losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna import SplitMarginLoss


pytest.importorskip("lightly")
pytest.importorskip("pytorch_metric_learning")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__


def test_plain_losses_are_ours(load: Load) -> None:
    peers = load("loss_peers")
    embeddings, labels, _ = peers.random_batch(32, 8, torch.float64, "cpu")
    for denominator in ("negatives", "all"):
        ours = SplitInfoNCELoss(1.0, 0.1, denominator)
        plain = peers.plain_infonce(embeddings, labels, 0.1, denominator)
        torch.testing.assert_close(ours(embeddings, labels), plain)
    ours = SplitMarginLoss(1.0, peers.MARGIN, "all")
    torch.testing.assert_close(ours(embeddings, labels), peers.plain_margin(embeddings, labels))


def test_gradient_of_ntxent_vanishes_on_hard_positives(load: Load) -> None:
    accuracy = load("loss_accuracy")
    batch = accuracy.hard_batch(64, 0, "cpu")
    for temperature, lowest, highest in ((0.1, 0, 1e-6), (0.001, 0.9, 1.0)):
        pair = accuracy.pairs(temperature)["PML NTXentLoss"]
        assert lowest <= accuracy.error(pair, batch, torch.float32) <= highest


def test_every_loss_has_its_turns_and_slow_ones_are_spread(load: Load) -> None:
    turns = {"quick": 40, "slow": 3, "slower": 2}
    order = list(load("losses").order_of_turns(turns))
    assert Counter(order) == turns
    first, second, third = (i for i, name in enumerate(order) if name == "slow")
    assert second - first > 10 < third - second


@pytest.mark.parametrize(
    ("seconds", "peak_mb", "left_out"),
    [(1.0, 100.0, None), (30.0, 100.0, "takes about 30 s"), (1.0, 9000.0, "needs about 9 GB")],
)
def test_slow_and_large_peers_are_left_out(
    load: Load, seconds: float, peak_mb: float, left_out: str | None
) -> None:
    losses = load("losses")
    expected = {
        "plain InfoNCE": losses.Pass(20.0, 100.0),
        "PML SupConLoss": losses.Pass(seconds, peak_mb),
    }
    reasons = losses.reasons_against(expected, 4000.0, losses.Seconds(1.5, 12.0))
    assert reasons.get("PML SupConLoss") == left_out


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc of Linux")
def test_peak_memory_of_a_process_is_seen(load: Load) -> None:
    memory = load("loss_memory")
    product = memory.CONTENDERS[-1]
    assert product.name == "matrix product"
    taken = memory.first_pass(product, 8192, 16, torch.float32, "cpu")
    # A block of 512 rows.
    assert taken.peak_mb == pytest.approx(512 * 8192 * 4 / 1e6, abs=3)


def test_our_losses_are_compared_with_peers_that_are_left(load: Load) -> None:
    summary = load("loss_summary")

    def row(loss: str, by: str, kind: str, ms: float | None) -> dict[str, Any]:
        where = {"dtype": "float32", "d": 128, "n": 64}
        times = {"median_ms": ms, "minimum_ms": ms, "peak_extra_mb": ms}
        return {**where, **times, "loss": loss, "by": by, "kind": kind}

    rows = [
        row("SplitInfoNCELoss", "ours", "InfoNCE", 3.0),
        row("SplitMarginLoss", "ours", "margin", 3.0),
        row("plain InfoNCE", "peer", "InfoNCE", 6.0),
        row("plain margin", "peer", "margin", None),
        row("matrix product", "bound", "both", 0.5),
    ]
    infonce, margin = summary.summary_rows(rows)
    assert (infonce["fastest"], infonce["to_fastest"], infonce["to_bound"]) == (
        "plain InfoNCE",
        0.5,
        2.0,
    )
    assert (margin["fastest"], margin["to_fastest"], margin["to_bound"]) == (None, None, 3.0)
    assert margin["to_fastest_of_all"] == margin["memory_to_smallest"] == 0.5
