from __future__ import annotations

from collections.abc import Callable
import gc
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cbal_optuna.losses import layout
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.losses import tiled


Make = Callable[..., SplitLoss]

LOSSES = [
    pytest.param(lambda **kw: SplitInfoNCELoss(2.0, 0.2, "negatives", **kw), id="negatives"),
    pytest.param(lambda **kw: SplitInfoNCELoss(2.0, 0.2, "all", **kw), id="all"),
    pytest.param(lambda **kw: SplitInfoNCELoss(2.0, 0.02, "all", **kw), id="all-cold"),
    pytest.param(lambda **kw: SplitMarginLoss(2.0, 0.1, "all", **kw), id="margin-all"),
    pytest.param(lambda **kw: SplitMarginLoss(2.0, 0.1, "nonzero", **kw), id="margin-nonzero"),
    pytest.param(lambda **kw: SplitMarginLoss(2.0, 0.1, "anchor_sum", **kw), id="anchor_sum"),
]
every_loss = pytest.mark.parametrize("make", LOSSES)
with_blocks = pytest.mark.usefixtures("rows_in_a_block")


@pytest.fixture(params=[1, 3, 1_000, "small"])
def rows_in_a_block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "small":
        monkeypatch.setattr(layout, "_BLOCK_SIZE", 1)
        monkeypatch.setattr(layout, "_MIN_ROWS", request.param)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(
    labels: Tensor, ref_labels: Tensor, self_start: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    positive = labels[:, None] == ref_labels
    negative = ~positive
    if self_start is not None:
        positive.diagonal(self_start).fill_(False)
    return (*torch.where(positive), *torch.where(negative))


def terms_and_gradients(
    loss: SplitLoss, embeddings: Tensor, *args: Any, **kwargs: Any
) -> list[Tensor]:
    """With respect to the embeddings, and to the references if there are some."""
    leaves = [embeddings.clone().requires_grad_()]
    if "ref_emb" in kwargs:
        leaves.append(kwargs["ref_emb"].clone().requires_grad_())
        kwargs["ref_emb"] = leaves[1]
    terms = loss.terms(leaves[0], *args, **kwargs)
    positive = torch.autograd.grad(terms.positive, leaves, retain_graph=True)
    entropy = torch.autograd.grad(terms.entropy, leaves)
    return [*(term.detach() for term in terms), *positive, *entropy]


classes = st.lists(st.integers(0, 4), min_size=1, max_size=12)


@with_blocks
@every_loss
@settings(max_examples=25)
@given(labels=classes)
def test_blocks_of_a_batch_equal_all_pairs(make: Make, labels: list[int]) -> None:
    classes, embeddings = torch.tensor(labels), randn(len(labels), 3)
    found = terms_and_gradients(make(), embeddings, classes)
    expected = terms_and_gradients(make(), embeddings, classes, pairs(classes, classes, 0))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@with_blocks
@every_loss
@settings(max_examples=25)
@given(labels=classes, others=classes, data=st.data())
def test_blocks_of_references_equal_all_pairs(
    make: Make, labels: list[int], others: list[int], data: st.DataObject
) -> None:
    start = data.draw(st.sampled_from([None, *range(len(others) + 1)]))
    ref_labels = torch.tensor(others if start is None else [*others[:start], *labels, *others])
    embeddings, ref_emb = randn(len(labels), 3), randn(len(ref_labels), 3, seed=1)
    references = {"ref_emb": ref_emb, "ref_labels": ref_labels}
    classes = torch.tensor(labels)
    found = terms_and_gradients(make(), embeddings, classes, **references, self_start=start)
    listed = pairs(classes, ref_labels, start)
    expected = terms_and_gradients(make(), embeddings, classes, listed, **references)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@with_blocks
def test_one_class_of_all_and_one_class_each_have_a_term_each() -> None:
    for labels in (torch.zeros(7, dtype=torch.int64), torch.arange(7)):
        for loss in (SplitInfoNCELoss(), SplitMarginLoss(margin=-1.0)):
            _, entropy, by_positive, by_entropy = terms_and_gradients(loss, randn(7, 3), labels)
            assert (by_positive.abs().sum() > 0) == (labels.unique().numel() == 1)
            assert (by_entropy.abs().sum() > 0) == (labels.unique().numel() == 7)


@with_blocks
@every_loss
def test_float32_equals_float64_to_rounding(make: Make) -> None:
    labels = torch.arange(40) % 11
    wide = terms_and_gradients(make(), randn(40, 16), labels)
    narrow = terms_and_gradients(make(), randn(40, 16).float(), labels)
    for a, b in zip(narrow, wide):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


@with_blocks
@pytest.mark.parametrize("denominator", ["negatives", "all"])
@pytest.mark.parametrize("temperature", [1e-3, 5e-3, 0.0099, 0.011, 0.024, 0.026, 0.1, 1.0])
def test_float32_gradients_hold_at_any_temperature_with_hard_positives(
    denominator: Any, temperature: float
) -> None:
    loss = SplitInfoNCELoss(1.0, temperature, denominator)
    labels, embeddings = torch.arange(16).repeat_interleave(4), randn(64, 32)
    *_, wide = terms_and_gradients(loss, embeddings.float().double(), labels)
    *_, narrow = terms_and_gradients(loss, embeddings.float(), labels)
    assert (narrow.double() - wide).norm() / wide.norm() < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_loss
def test_half_precision_gradients_are_rounded_once(make: Make, dtype: torch.dtype) -> None:
    labels, embeddings = torch.arange(24) % 5, randn(24, 8).to(dtype)
    found = terms_and_gradients(make(), embeddings, labels)
    expected = terms_and_gradients(make(), embeddings.double(), labels)
    for a, b in zip(found[2:], expected[2:]):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@every_loss
@pytest.mark.parametrize("create_graph", [False, True])
def test_autocast_does_not_reach_the_backward_pass(make: Make, create_graph: bool) -> None:
    labels, leaf = torch.arange(24) % 5, randn(24, 8).float().requires_grad_()
    loss = make()(leaf, labels)
    (expected,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(loss, leaf, create_graph=create_graph)
    torch.testing.assert_close(found, expected)


@every_loss
def test_a_loss_that_is_kept_keeps_no_gradients_after_the_backward_pass(make: Make) -> None:
    leaf = randn(11, 7).requires_grad_()
    loss = make()(leaf, torch.arange(11) % 4)
    loss.backward()
    held = [x for x in gc.get_objects() if type(x) is Tensor and x.shape == (11, 7)]
    assert all(x is leaf or x is leaf.grad for x in held)


@with_blocks
@pytest.mark.parametrize("denominator", ["negatives", "all"])
@pytest.mark.parametrize("temperature", [0.004, 0.02, 0.3])
def test_temperature_and_balance_have_gradients(denominator: Any, temperature: float) -> None:
    labels, embeddings = torch.arange(12) % 4, randn(12, 3)

    def value(balance: Tensor, tau: Tensor) -> Tensor:
        return SplitInfoNCELoss(balance, tau, denominator)(embeddings, labels)

    inputs = [torch.tensor(x, dtype=torch.float64).requires_grad_() for x in (2.0, temperature)]
    assert torch.autograd.gradcheck(value, inputs, eps=1e-7, atol=1e-5)


@with_blocks
@pytest.mark.parametrize("aggregation", ["all", "nonzero", "anchor_sum"])
def test_margin_has_a_gradient(aggregation: Any) -> None:
    labels, embeddings, ref_emb = torch.arange(12) % 4, randn(12, 3), randn(9, 3, seed=2)

    def value(margin: Tensor) -> Tensor:
        loss = SplitMarginLoss(1.5, margin, aggregation)
        references = loss(embeddings, labels, ref_emb=ref_emb, ref_labels=torch.arange(9))
        return loss(embeddings, labels) + references

    assert torch.autograd.gradcheck(
        value, [torch.tensor(0.1, dtype=torch.float64).requires_grad_()]
    )


def test_a_parameter_is_learned_with_the_encoder() -> None:
    loss = SplitInfoNCELoss(temperature=torch.nn.Parameter(torch.tensor(0.5)))
    assert [name for name, _ in loss.named_parameters()] == ["temperature"]
    loss(randn(12, 3).float(), torch.arange(12) % 4).backward()
    assert loss.temperature.grad.abs() > 0


@every_loss
def test_second_derivatives_are_right(make: Make) -> None:
    labels = torch.tensor([0, 1, 0, 2, 1])
    ref_labels = torch.tensor([0, 1, 5])

    def value(embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        loss = make()
        references = loss(embeddings, labels, ref_emb=ref_emb, ref_labels=ref_labels)
        return loss(embeddings, labels) + references

    inputs = [randn(5, 3).requires_grad_(), randn(3, 3, seed=3).requires_grad_()]
    assert torch.autograd.gradgradcheck(value, inputs)


@every_loss
@pytest.mark.parametrize(
    "references", [lambda e: e, lambda e: torch.cat([e, e.detach()])], ids=["itself", "memory"]
)
def test_gradients_by_references_made_from_the_embeddings_are_counted_once(
    make: Make, references: Callable[[Tensor], Tensor]
) -> None:
    labels, leaf = torch.tensor([0, 1, 0, 2, 1]), randn(5, 3).requires_grad_()
    ref_emb = references(leaf)
    ref_labels = labels.repeat(len(ref_emb) // 5)
    loss = make()(leaf, labels, ref_emb=ref_emb, ref_labels=ref_labels, self_start=0)
    (once,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (twice,) = torch.autograd.grad(loss, leaf, create_graph=True)
    torch.testing.assert_close(twice, once)


def test_second_derivatives_by_the_temperature_are_right() -> None:
    def value(embeddings: Tensor, tau: Tensor) -> Tensor:
        return SplitInfoNCELoss(1.0, tau)(embeddings, torch.arange(6) % 3)

    tau = torch.tensor(0.3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(value, [randn(6, 3).requires_grad_(), tau])


def test_second_derivatives_of_too_many_pairs_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiled, "_MAX_PAIRS_TWICE", 35)
    leaf = randn(6, 3).requires_grad_()
    loss = SplitInfoNCELoss()(leaf, torch.arange(6) % 3)
    with pytest.raises(RuntimeError, match="of 36 pairs .* they can be had of 35 at most"):
        torch.autograd.grad(loss, leaf, create_graph=True)


@every_loss
def test_a_compiled_step_equals_the_step(make: Make) -> None:
    labels, loss = torch.arange(12) % 4, make()
    encoder = torch.nn.Linear(5, 3, dtype=torch.float64)

    def step(images: Tensor) -> Tensor:
        return loss(encoder(images).relu(), labels)

    compiled = torch.compile(step, backend="aot_eager")
    expected = torch.autograd.grad(step(randn(12, 5)), encoder.weight)
    found = torch.autograd.grad(compiled(randn(12, 5)), encoder.weight)
    torch.testing.assert_close(found, expected)


@every_loss
def test_a_checkpointed_loss_has_the_same_gradient(make: Make) -> None:
    labels, loss = torch.arange(12) % 4, make()
    leaves = [randn(12, 3).requires_grad_() for _ in range(2)]
    loss(leaves[0], labels).backward()
    checkpoint(loss, leaves[1], labels, use_reentrant=False).backward()
    assert torch.equal(leaves[0].grad, leaves[1].grad)


def test_no_tensor_is_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_BLOCK_SIZE", 8_000)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    n, d = 1_000, 4
    for loss in (SplitInfoNCELoss(), SplitInfoNCELoss(temperature=0.02), SplitMarginLoss()):
        leaf = randn(n, d).requires_grad_()
        with Sizes():
            loss(leaf, torch.arange(n) % 300).backward()
        assert 0 < largest <= 64 * n
