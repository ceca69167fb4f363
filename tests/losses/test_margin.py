from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cbal_optuna.losses import SplitMarginLoss


# Classes of 4, 3, 2 and 1 samples, mixed; references of known and new classes.
LABELS = torch.tensor([0, 1, 0, 2, 0, 3, 1, 2, 0, 1])
REF_LABELS = torch.tensor([0, 0, 1, 5, 2])
AGGREGATIONS = pytest.mark.parametrize("aggregation", ["all", "nonzero", "anchor_sum"])


def batch(n: int = len(LABELS), d: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def value_and_gradient(loss: Any, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = loss(leaf, labels)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def naive_entropy(
    loss: SplitMarginLoss, anchors: Tensor, labels: Tensor, refs: Tensor, ref_labels: Tensor
) -> float:
    excesses = [
        max(torch.cosine_similarity(anchors[i], refs[k], dim=0).item() - loss.margin, 0)
        for i in range(len(anchors))
        for k in range(len(refs))
        if labels[i] != ref_labels[k]
    ]
    count = {
        "all": len(excesses),
        "nonzero": sum(excess > 0 for excess in excesses),
        "anchor_sum": len(anchors),
    }
    return sum(excesses) / count[loss.aggregation]


@AGGREGATIONS
@pytest.mark.parametrize("margin", [-1.0, -0.3, 0.0, 0.5])
def test_entropy_equals_loops_over_the_batch(aggregation: Any, margin: float) -> None:
    loss = SplitMarginLoss(1.0, margin, aggregation)
    expected = naive_entropy(loss, batch(), LABELS, batch(), LABELS)
    assert loss.terms(batch(), LABELS).entropy.item() == pytest.approx(expected, rel=1e-12)


@AGGREGATIONS
def test_entropy_equals_loops_over_references(aggregation: Any) -> None:
    loss, refs = SplitMarginLoss(1.0, 0.2, aggregation), batch(5, seed=1)
    expected = naive_entropy(loss, batch(), LABELS, refs, REF_LABELS)
    terms = loss.terms(batch(), LABELS, ref_emb=refs, ref_labels=REF_LABELS)
    assert terms.entropy.item() == pytest.approx(expected, rel=1e-12)


@AGGREGATIONS
def test_no_active_pair_means_no_entropy_and_no_gradient(aggregation: Any) -> None:
    embeddings = batch().requires_grad_()
    entropy = SplitMarginLoss(1.0, 1.0, aggregation).terms(embeddings, LABELS).entropy
    (gradient,) = torch.autograd.grad(entropy, embeddings)
    assert entropy == 0 and not gradient.any()


@AGGREGATIONS
def test_gradients_equal_differences(aggregation: Any) -> None:
    loss = SplitMarginLoss(3.0, 0.2, aggregation)
    embeddings, refs = batch().requires_grad_(), batch(5, seed=1).requires_grad_()
    one_class = torch.zeros_like(LABELS)
    assert torch.autograd.gradcheck(lambda x: loss(x, LABELS), embeddings)
    assert torch.autograd.gradcheck(lambda x: loss(x, one_class), embeddings)
    assert torch.autograd.gradcheck(
        lambda x, r: loss(x, LABELS, None, r, REF_LABELS), (embeddings, refs)
    )


@AGGREGATIONS
def test_float32_gradients_are_those_of_float64(aggregation: Any) -> None:
    embeddings, labels = batch(64, 32).float(), torch.arange(64) // 4
    loss = SplitMarginLoss(5.0, 0.2, aggregation)
    _, exact = value_and_gradient(loss, embeddings.double(), labels)
    _, single = value_and_gradient(loss, embeddings, labels)
    assert (single - exact).norm() / exact.norm() < 1e-6


def test_mean_over_all_pairs_does_not_depend_on_the_batch_size() -> None:
    # The mean over every batch of 4 of 6 samples, one per class, is that of the whole.
    loss = SplitMarginLoss(margin=0.0, aggregation="all")
    embeddings, labels = batch(6), torch.arange(6)
    subsets = torch.combinations(labels, 4)
    values = [loss.terms(embeddings[subset], labels[subset]).entropy for subset in subsets]
    torch.testing.assert_close(torch.stack(values).mean(), loss.terms(embeddings, labels).entropy)


@pytest.mark.parametrize(
    ("aggregation", "reducer"), [("all", "MeanReducer"), ("nonzero", "AvgNonZeroReducer")]
)
def test_balance_one_is_the_contrastive_loss(aggregation: Any, reducer: str) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    peer = losses.ContrastiveLoss(
        pos_margin=1,
        neg_margin=0.1,
        distance=distances.CosineSimilarity(),
        reducer=getattr(reducers, reducer)(),
    )
    labels = torch.arange(12) % 4  # equally many positives for every anchor
    value, gradient = value_and_gradient(SplitMarginLoss(1.0, 0.1, aggregation), batch(12), labels)
    expected, peer_gradient = value_and_gradient(peer, batch(12), labels)
    torch.testing.assert_close(value, expected - 1)
    torch.testing.assert_close(gradient, peer_gradient)


@pytest.mark.parametrize("margin", [-1.1, 1.5, float("nan"), "0.5"])
def test_margin_must_be_a_similarity(margin: float) -> None:
    with pytest.raises(ValueError, match="`margin` is .*, it must be .* between -1 and 1"):
        SplitMarginLoss(margin=margin)


def test_aggregation_must_be_known() -> None:
    words = "'all' or 'nonzero' or 'anchor_sum'"
    with pytest.raises(ValueError, match=f"`aggregation` is 'mean', it must be {words}"):
        SplitMarginLoss(aggregation="mean")  # type: ignore[arg-type]


def test_repr_says_all_settings() -> None:
    assert repr(SplitMarginLoss(4, 0.2, "nonzero")) == (
        "SplitMarginLoss(balance=4.0, margin=0.2, aggregation='nonzero')"
    )
