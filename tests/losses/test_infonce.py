from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cbal_optuna.losses import infonce
from cbal_optuna.losses import SplitInfoNCELoss


# Classes of 4, 3, 2 and 1 samples, mixed; references of one known and one new class.
LABELS = torch.tensor([0, 1, 0, 2, 0, 3, 1, 2, 0, 1])
REF_LABELS = torch.tensor([0, 0, 1, 5, 2])
DENOMINATORS = pytest.mark.parametrize("denominator", ["negatives", "all"])


def batch(n: int = len(LABELS), d: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def value_and_gradient(loss: Any, embeddings: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = loss(leaf, *args)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def naive_entropy(
    loss: SplitInfoNCELoss, anchors: Tensor, labels: Tensor, refs: Tensor, ref_labels: Tensor
) -> float:
    own = refs is anchors
    values = []
    for i in range(len(anchors)):
        logits = [
            torch.cosine_similarity(anchors[i], refs[k], dim=0).item() / loss.temperature
            for k in range(len(refs))
            if labels[i] != ref_labels[k] or (loss.denominator == "all" and not (own and i == k))
        ]
        if logits:
            mean_exp = sum(math.exp(logit) for logit in logits) / len(logits)
            values.append(loss.temperature * math.log(mean_exp))
    return sum(values) / len(values)


@DENOMINATORS
@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0, 30.0])
def test_entropy_equals_loops_over_the_batch(denominator: Any, temperature: float) -> None:
    loss, embeddings = SplitInfoNCELoss(1.0, temperature, denominator), batch()
    expected = naive_entropy(loss, embeddings, LABELS, embeddings, LABELS)
    assert loss.terms(embeddings, LABELS).entropy.item() == pytest.approx(expected, rel=1e-10)


@DENOMINATORS
def test_entropy_equals_loops_over_references(denominator: Any) -> None:
    loss, refs = SplitInfoNCELoss(denominator=denominator), batch(5, seed=1)
    expected = naive_entropy(loss, batch(), LABELS, refs, REF_LABELS)
    terms = loss.terms(batch(), LABELS, ref_emb=refs, ref_labels=REF_LABELS)
    assert terms.entropy.item() == pytest.approx(expected, rel=1e-12)


def test_anchors_without_negatives_leave_the_mean() -> None:
    refs, ref_labels = batch(2, seed=1), torch.tensor([0, 0])
    loss = SplitInfoNCELoss()
    of_all = loss.terms(batch(), LABELS, ref_emb=refs, ref_labels=ref_labels).entropy
    others = LABELS != 0
    of_others = loss.terms(batch()[others], LABELS[others], ref_emb=refs, ref_labels=ref_labels)
    torch.testing.assert_close(of_all, of_others.entropy)


@DENOMINATORS
def test_gradients_equal_differences(denominator: Any) -> None:
    loss = SplitInfoNCELoss(3.0, 0.2, denominator)
    embeddings, refs = batch().requires_grad_(), batch(5, seed=1).requires_grad_()
    one_class = torch.zeros_like(LABELS)
    assert torch.autograd.gradcheck(lambda x: loss(x, LABELS), embeddings)
    assert torch.autograd.gradcheck(lambda x: loss(x, one_class), embeddings)
    assert torch.autograd.gradcheck(
        lambda x, r: loss(x, LABELS, None, r, REF_LABELS), (embeddings, refs)
    )


@DENOMINATORS
@pytest.mark.parametrize("temperature", [1e-3, 3e-3, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize(
    ("spread", "rounding"), [(0, 1e-8), (1.5, 3e-8), (8, 5e-8)], ids=["random", "hard", "near"]
)
def test_float32_gradients_are_those_of_float64(
    denominator: Any, temperature: float, spread: float, rounding: float
) -> None:
    # Directions shared across the classes make negatives nearer than positives, and similarities
    # large; their rounding is divided by the temperature.
    labels = torch.arange(64) // 4
    shared = torch.arange(64) % 4
    loss = SplitInfoNCELoss(1.0, temperature, denominator)
    embeddings = (batch(64, 128) + spread * batch(4, 128, seed=1)[shared]).float()
    _, exact = value_and_gradient(loss, embeddings.double(), labels)
    _, single = value_and_gradient(loss, embeddings, labels)
    error = (single - exact).norm() / exact.norm()
    assert error < 1e-6 + rounding / temperature


@DENOMINATORS
@pytest.mark.parametrize("n", [64, 256])
def test_a_low_temperature_makes_no_subnormal_numbers(
    denominator: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take a processor many times as long."""
    exponentials, shares = infonce._exponentials, []

    def noting(logits: Tensor, empty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, sums, largest = exponentials(logits, empty)
        shares.append(weights / sums[:, None])
        return weights, sums, largest

    monkeypatch.setattr(infonce, "_exponentials", noting)
    loss = SplitInfoNCELoss(1.0, 0.012, denominator)
    value_and_gradient(loss, batch(n, 2).float(), torch.arange(n) // 4)
    smallest = torch.finfo(torch.float32).tiny
    assert all(((s == 0) | (s >= smallest)).all() for s in shares)
    # Those of nearly all samples are 0, not only of the ones that are left out.
    assert shares and all((s == 0).sum() > 4 * n for s in shares)


def test_small_temperatures_see_the_nearest_and_large_ones_the_mean() -> None:
    embeddings = torch.nn.functional.normalize(batch())
    similarity = embeddings @ embeddings.T
    other = torch.where(LABELS[:, None] != LABELS, similarity, torch.nan)
    for temperature, expected in [
        (1e-6, other.nan_to_num(-1).amax(dim=1).mean()),
        (1e6, other.nanmean(dim=1).mean()),
    ]:
        entropy = SplitInfoNCELoss(temperature=temperature).terms(batch(), LABELS).entropy
        assert entropy.item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_balance_one_over_all_is_supcon(temperature: float) -> None:
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    labels = torch.tensor([0, 1, 0, 2, 0, 2, 1, 2, 0, 1])  # imbalanced, no singletons
    loss = SplitInfoNCELoss(1.0, temperature, "all")
    value, gradient = value_and_gradient(loss, batch(), labels)
    supcon, supcon_gradient = value_and_gradient(pml.SupConLoss(temperature), batch(), labels)
    torch.testing.assert_close(value / temperature, supcon - math.log(9))
    torch.testing.assert_close(gradient / temperature, supcon_gradient)


@pytest.mark.parametrize(
    ("denominator", "oracle", "others"),
    [("all", "NTXentLoss", 11), ("negatives", "DCLLoss", 10)],
)
def test_balance_one_on_two_views_is(denominator: Any, oracle: str, others: int) -> None:
    lightly = pytest.importorskip("lightly.loss")
    peer = getattr(lightly, oracle)(temperature=0.2)
    labels = torch.arange(6).repeat(2)
    loss = SplitInfoNCELoss(1.0, 0.2, denominator)
    value, gradient = value_and_gradient(loss, batch(12), labels)
    expected, peer_gradient = value_and_gradient(lambda z: peer(*z.chunk(2)), batch(12))
    torch.testing.assert_close(value / 0.2, expected - math.log(others))
    torch.testing.assert_close(gradient / 0.2, peer_gradient)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "0.1"])
def test_temperature_must_be_a_number_above_zero(temperature: float) -> None:
    with pytest.raises(
        ValueError, match="`temperature` is .*, it must be a finite number above 0"
    ):
        SplitInfoNCELoss(temperature=temperature)


def test_denominator_must_be_known() -> None:
    with pytest.raises(ValueError, match="`denominator` is 'both', .* 'negatives' or 'all'"):
        SplitInfoNCELoss(denominator="both")  # type: ignore[arg-type]


def test_repr_says_all_settings() -> None:
    assert repr(SplitInfoNCELoss(4, 0.2, "all")) == (
        "SplitInfoNCELoss(balance=4.0, temperature=0.2, denominator='all')"
    )
