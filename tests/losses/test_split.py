from __future__ import annotations

import copy
import doctest
from typing import Any
import warnings

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.losses import infonce
from cbal_optuna.losses import margin
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss


LOSSES = [
    pytest.param(SplitInfoNCELoss(2.0, 0.2, "negatives"), id="infonce-negatives"),
    pytest.param(SplitInfoNCELoss(2.0, 0.2, "all"), id="infonce-all"),
    pytest.param(SplitMarginLoss(2.0, 0.1, "all"), id="margin-all"),
    pytest.param(SplitMarginLoss(2.0, 0.1, "nonzero"), id="margin-nonzero"),
    pytest.param(SplitMarginLoss(2.0, 0.1, "anchor_sum"), id="margin-anchor_sum"),
]
every_loss = pytest.mark.parametrize("loss", LOSSES)

# Classes of 4, 3, 2 and 1 samples, mixed.
LABELS = torch.tensor([0, 1, 0, 2, 0, 3, 1, 2, 0, 1])


def batch(n: int = len(LABELS), dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator, dtype=torch.float64).to(dtype)


def gradient(loss: SplitLoss, embeddings: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    leaf = embeddings.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf, *args, **kwargs), leaf)
    return grad


def pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    same = labels[:, None] == labels
    anchors, positives = torch.where(same & ~torch.eye(len(labels), dtype=torch.bool))
    others, negatives = torch.where(~same)
    return anchors, positives, others, negatives


def naive_positive(
    anchors: Tensor, labels: Tensor, refs: Tensor, ref_labels: Tensor, own: bool
) -> float:
    means = []
    for i in range(len(anchors)):
        similarities = [
            torch.cosine_similarity(anchors[i], refs[j], dim=0).item()
            for j in range(len(refs))
            if labels[i] == ref_labels[j] and not (own and i == j)
        ]
        if similarities:
            means.append(-sum(similarities) / len(similarities))
    return sum(means) / len(means)


@every_loss
def test_positive_term_equals_loops_over_the_batch(loss: SplitLoss) -> None:
    expected = naive_positive(batch(), LABELS, batch(), LABELS, own=True)
    assert loss.terms(batch(), LABELS).positive.item() == pytest.approx(expected, rel=1e-12)


@every_loss
def test_positive_term_equals_loops_over_references(loss: SplitLoss) -> None:
    refs, ref_labels = batch(5, seed=1), torch.tensor([0, 0, 1, 5, 2])
    expected = naive_positive(batch(), LABELS, refs, ref_labels, own=False)
    terms = loss.terms(batch(), LABELS, ref_emb=refs, ref_labels=ref_labels)
    assert terms.positive.item() == pytest.approx(expected, rel=1e-12)


@every_loss
@pytest.mark.parametrize("balance", [0.0, 0.25, 40.0])
def test_loss_is_positive_plus_balance_times_entropy(loss: SplitLoss, balance: float) -> None:
    positive, entropy = loss.terms(batch(), LABELS)
    weighted = copy.copy(loss)
    weighted.balance = balance
    assert weighted(batch(), LABELS).item() == pytest.approx(
        positive.item() + balance * entropy.item()
    )


@every_loss
def test_references_with_the_labels_themselves_are_the_batch(loss: SplitLoss) -> None:
    with_refs = loss(batch(), LABELS, ref_emb=batch(), ref_labels=LABELS)
    torch.testing.assert_close(with_refs, loss(batch(), LABELS))


def test_references_with_equal_labels_are_other_samples() -> None:
    positive, _ = SplitInfoNCELoss().terms(
        batch(3), torch.arange(3), ref_emb=batch(3), ref_labels=torch.arange(3)
    )
    assert positive.item() == pytest.approx(-1)


@every_loss
def test_gradient_reaches_the_references(loss: SplitLoss) -> None:
    refs = batch(seed=1).requires_grad_()
    loss(batch(), LABELS, ref_emb=refs, ref_labels=LABELS.clone()).backward()
    assert refs.grad is not None and refs.grad.norm(dim=1).gt(0).sum() > 5


@every_loss
def test_all_pairs_as_indices_equal_no_indices(loss: SplitLoss) -> None:
    torch.testing.assert_close(loss(batch(), LABELS, pairs(LABELS)), loss(batch(), LABELS))


@every_loss
def test_pairs_not_in_the_indices_do_not_count(loss: SplitLoss) -> None:
    embeddings = batch()
    positives = torch.tensor([0, 1]), torch.tensor([2, 6])
    negatives = torch.tensor([0, 1, 1]), torch.tensor([3, 4, 9])
    used = torch.tensor([0, 1, 2, 3, 4, 6, 9])
    grad = gradient(loss, embeddings, LABELS, (*positives, *negatives))
    positive, _ = loss.terms(embeddings, LABELS, (*positives, *negatives))
    expected = -torch.cosine_similarity(embeddings[positives[0]], embeddings[positives[1]]).mean()
    assert positive.item() == pytest.approx(expected.item())
    assert not grad[[5, 7, 8]].any()
    assert grad[used].any()


@every_loss
def test_triplets_are_their_pairs_listed_once(loss: SplitLoss) -> None:
    a, p, n = torch.tensor([[0, 2, 3], [0, 2, 5], [1, 6, 3], [0, 4, 3]]).T
    as_pairs = (a, p, a[:3], n[:3])
    assert torch.equal(loss(batch(), LABELS, (a, p, n)), loss(batch(), LABELS, as_pairs))


@every_loss
@pytest.mark.parametrize(
    "labels",
    [[0], [0, 0], [0, 1], [0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 0, 1]],
    ids=lambda labels: "".join(map(str, labels)),
)
def test_terms_without_pairs_are_zero_with_zero_gradient(
    loss: SplitLoss, labels: list[int]
) -> None:
    embeddings = batch(len(labels)).requires_grad_()
    positive, entropy = loss.terms(embeddings, torch.tensor(labels))
    one_class, singletons = len(set(labels)) == 1, len(set(labels)) == len(labels)
    needs_negatives = getattr(loss, "denominator", "negatives") == "negatives"
    no_entropy = one_class and (needs_negatives or singletons)
    for term, is_zero in [(positive, singletons), (entropy, no_entropy)]:
        with torch.autograd.set_detect_anomaly(True):
            (grad,) = torch.autograd.grad(term, embeddings, retain_graph=True)
        assert term.isfinite() and grad.isfinite().all()
        if is_zero:
            assert term == 0 and not grad.any()


@every_loss
@pytest.mark.parametrize("n", [1, 10])
def test_zero_embeddings_have_no_gradient_and_spoil_no_other(loss: SplitLoss, n: int) -> None:
    embeddings = batch(n, torch.float32)
    embeddings[0] = 0
    grad = gradient(loss, embeddings, LABELS[:n])
    assert loss(embeddings, LABELS[:n]).isfinite()
    assert not grad[0].any()
    assert grad.abs().max() < 10


@every_loss
def test_equal_embeddings_have_finite_gradients(loss: SplitLoss) -> None:
    assert gradient(loss, torch.ones(10, 4), LABELS).abs().max() < 1e-5


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_half_precision_inputs_are_computed_in_float32(
    loss: SplitLoss, dtype: torch.dtype, autocast: bool
) -> None:
    embeddings = batch(dtype=dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(embeddings, LABELS)
    (grad,) = torch.autograd.grad(value, embeddings)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(embeddings.float(), LABELS))
    assert torch.equal(grad, gradient(loss, embeddings.detach().float(), LABELS).to(dtype))


@every_loss
def test_autocast_leaves_float32_inputs_alone(loss: SplitLoss) -> None:
    embeddings = batch(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(embeddings, LABELS)
    assert torch.equal(value, loss(embeddings, LABELS))


@every_loss
@pytest.mark.parametrize(
    "dtypes", [(torch.float64, torch.bfloat16), (torch.float32, torch.float64)], ids=str
)
def test_wider_dtype_of_embeddings_and_references_is_used(
    loss: SplitLoss, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    embeddings, refs = batch(dtype=dtypes[0]), batch(5, dtypes[1], seed=1)
    value = loss(embeddings, LABELS, ref_emb=refs, ref_labels=LABELS[:5])
    expected = loss(embeddings.double(), LABELS, ref_emb=refs.double(), ref_labels=LABELS[:5])
    assert value.dtype == torch.float64
    assert torch.equal(value, expected)


@every_loss
@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(len(LABELS))))
def test_order_of_the_batch_does_not_matter(loss: SplitLoss, order: list[int]) -> None:
    assert loss(batch()[order], LABELS[order]).item() == pytest.approx(
        loss(batch(), LABELS).item(), rel=1e-12
    )


@every_loss
@settings(max_examples=15, deadline=None)
@given(powers=st.lists(st.floats(-15, 15), min_size=len(LABELS), max_size=len(LABELS)))
def test_length_of_embeddings_does_not_matter(loss: SplitLoss, powers: list[float]) -> None:
    scale = 10 ** torch.tensor(powers)[:, None]
    embeddings = batch(dtype=torch.float32)
    torch.testing.assert_close(
        loss(embeddings * scale, LABELS), loss(embeddings, LABELS), rtol=1e-5, atol=1e-6
    )


@every_loss
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_any_class_sizes_give_finite_values_and_gradients(
    loss: SplitLoss, sizes: list[int], seed: int
) -> None:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    embeddings = batch(len(labels), torch.float32, seed)
    assert -1 - 1e-6 <= loss.terms(embeddings, labels).positive <= 1 + 1e-6
    assert loss(embeddings, labels).isfinite()
    assert gradient(loss, embeddings, labels).isfinite().all()


@every_loss
def test_cross_batch_memory_equals_references_by_hand(loss: SplitLoss) -> None:
    pml = pytest.importorskip("pytorch_metric_learning.losses")

    class Memory(pml.CrossBatchMemory):  # type: ignore[misc,name-defined]
        @staticmethod
        def supported_losses() -> list[str]:
            return ["SplitInfoNCELoss", "SplitMarginLoss"]

    memory = Memory(loss, embedding_size=4, memory_size=20)
    first, second = batch(dtype=torch.float32), batch(dtype=torch.float32, seed=1)
    torch.testing.assert_close(memory(first, LABELS), loss(first, LABELS))

    leaf = second.clone().requires_grad_()
    value = memory(leaf, LABELS)
    queue, queue_labels = torch.cat([first, second]), torch.cat([LABELS, LABELS])
    same = LABELS[:, None] == queue_labels
    another = torch.arange(10)[:, None] + 10 != torch.arange(20)
    by_hand = (*torch.where(same & another), *torch.where(~same))
    expected = loss(leaf, LABELS, by_hand, queue, queue_labels)
    assert torch.equal(value, expected)
    assert torch.equal(*[torch.autograd.grad(v, leaf)[0] for v in (value, expected)])


@every_loss
@pytest.mark.parametrize("symmetric", [True, False])
def test_self_supervised_wrapper_equals_labels_by_hand(loss: SplitLoss, symmetric: bool) -> None:
    pml = pytest.importorskip("pytorch_metric_learning.losses")

    class Views(pml.SelfSupervisedLoss):  # type: ignore[misc,name-defined]
        @staticmethod
        def supported_losses() -> list[str]:
            return ["SplitInfoNCELoss", "SplitMarginLoss"]

    view, other, label = batch(6), batch(6, seed=1), torch.arange(6)
    if symmetric:
        expected = loss(torch.cat([view, other]), torch.cat([label, label]))
    else:
        expected = loss(view, label, ref_emb=other, ref_labels=label.clone())
    assert torch.equal(Views(loss, symmetric=symmetric)(view, other), expected)


@every_loss
@pytest.mark.parametrize(
    "miner", ["PairMarginMiner", "MultiSimilarityMiner", "TripletMarginMiner"]
)
def test_miners_of_pytorch_metric_learning_choose_pairs(loss: SplitLoss, miner: str) -> None:
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    mined = getattr(miners, miner)()(batch(), LABELS)
    value, grad = loss(batch(), LABELS, mined), gradient(loss, batch(), LABELS, mined)
    assert value.isfinite() and grad.any()
    assert value != loss(batch(), LABELS)


@pytest.mark.parametrize("module", [infonce, margin])
def test_examples_in_docstrings_run(module: object) -> None:
    failed, attempted = doctest.testmod(module)  # type: ignore[arg-type]
    assert attempted > 0 and failed == 0


X, Y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], Y), r"`embeddings` has shape \(2,\) .* it must have two axes"),
        ((X[:0], Y[:0]), r"`embeddings` has shape \(0, 2\) .* at least one row"),
        ((X.long(), Y), "`embeddings` .* dtype torch.int64, .* floating-point"),
        ((X, Y[:2]), r"`labels` has shape \(2,\), .* each row of `embeddings`: \(3,\)"),
        ((X, Y[:, None]), r"`labels` has shape \(3, 1\), it must have one axis"),
        ((X, Y.float()), "`labels` has dtype torch.float32, it must hold integers"),
        ((X, Y > 0), "`labels` has dtype torch.bool, it must hold integers"),
        ((X.numpy(), Y), "`embeddings` is of type ndarray, it must be a tensor"),
        ((X, Y.numpy()), "`labels` is of type ndarray, it must be a tensor"),
        ((X, Y, None, X, Y.tolist()), "`ref_labels` is of type list, it must be a tensor"),
        ((X, Y, None, X), "`ref_labels` is None, it must be given together with `ref_emb`"),
        ((X, Y, None, None, Y), "`ref_emb` is None, it must be given together with `ref_labels`"),
        ((X, Y, None, X[:0], Y[:0]), r"`ref_emb` has shape \(0, 2\) .* at least one row"),
        ((X, Y, None, X, Y[:2]), r"`ref_labels` has shape \(2,\), .* each row of `ref_emb`"),
        ((X, Y, None, X[:, :1], Y), "`ref_emb` has 1 dimensions, .* those of `embeddings`: 2"),
        ((X, Y, (Y, Y)), "`indices_tuple` has 2 parts, it must have 4 .* or 3"),
        ((X, Y, (Y, Y + 1, Y + 1)), "`indices_tuple` names a pair as both positive and negative"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    for call in (SplitInfoNCELoss(), SplitMarginLoss().terms):
        with pytest.raises(ValueError, match=message):
            call(*arguments)


@pytest.mark.parametrize("balance", [-0.1, float("nan"), float("inf"), "1", torch.tensor(-1.0)])
@pytest.mark.parametrize("loss", [SplitInfoNCELoss, SplitMarginLoss])
def test_balance_must_be_a_number_of_at_least_zero(
    loss: type[SplitInfoNCELoss | SplitMarginLoss], balance: float
) -> None:
    with pytest.raises(
        ValueError, match="`balance` is .*, it must be a finite number of at least"
    ):
        loss(balance=balance)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_lengths_whose_squares_overflow_or_vanish_change_nothing(scale: float) -> None:
    embeddings = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 3
    usual = SplitInfoNCELoss().terms(embeddings, labels)
    scaled = SplitInfoNCELoss().terms(scale * embeddings, labels)
    torch.testing.assert_close(scaled, usual)


def test_a_loss_with_learned_numbers_is_printed_without_a_warning() -> None:
    balance, temperature = (nn.Parameter(torch.tensor(x)) for x in (2.0, 0.25))
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            said = repr(SplitInfoNCELoss(balance, temperature))
    finally:
        torch.set_warn_always(False)
    assert said == "SplitInfoNCELoss(balance=2, temperature=0.25, denominator='negatives')"
