from __future__ import annotations

import doctest
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cbal_optuna.losses import CrossBatchMemory
from cbal_optuna.losses import memory
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.losses import SplitTerms


every_loss = pytest.mark.parametrize(
    "loss", [SplitInfoNCELoss(2.0, 0.2), SplitMarginLoss(2.0, 0.1, "nonzero")], ids=repr
)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def batch(seed: int) -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))


@every_loss
def test_references_are_the_batch_and_the_latest_before(loss: SplitLoss) -> None:
    remembering = CrossBatchMemory(loss, 3, size=8)
    for seed in range(4):
        remembering(batch(seed), LABELS)
    found = batch(4).requires_grad_()
    remembering(found, LABELS).backward()

    expected = batch(4).requires_grad_()
    past = torch.cat([batch(2)[-2:], batch(3)])
    references = torch.cat([expected, past])
    ref_labels = torch.cat([LABELS, LABELS[-2:], LABELS])
    loss(expected, LABELS, ref_emb=references, ref_labels=ref_labels, self_start=0).backward()
    torch.testing.assert_close(found.grad, expected.grad)


@every_loss
def test_the_first_batch_has_itself_alone(loss: SplitLoss) -> None:
    remembering = CrossBatchMemory(loss, 3)
    assert remembering.terms(batch(0), LABELS) == loss.terms(batch(0), LABELS)
    assert remembering.terms(batch(1), LABELS) != loss.terms(batch(1), LABELS)


def test_in_warm_up_the_memory_is_filled_and_not_used() -> None:
    loss = SplitInfoNCELoss()
    remembering = CrossBatchMemory(loss, 3, warm_up=2)
    for seed in range(2):
        assert remembering(batch(seed), LABELS) == loss(batch(seed), LABELS)
    assert len(remembering) == 12
    assert remembering(batch(2), LABELS) != loss(batch(2), LABELS)


def test_nothing_is_stored_in_evaluation() -> None:
    remembering = CrossBatchMemory(SplitInfoNCELoss(), 3)
    remembering(batch(0), LABELS)
    remembering.eval()(batch(1), LABELS)
    assert len(remembering) == 6


@pytest.mark.parametrize("size", [4, 6, 13])
def test_the_latest_are_kept_whatever_the_size(size: int) -> None:
    remembering = CrossBatchMemory(SplitInfoNCELoss(), 3, size=size)
    for seed in range(5):
        remembering(batch(seed), LABELS)
    latest = torch.cat([batch(seed) for seed in range(5)])[-size:]
    stored = remembering.embeddings
    assert sorted(stored.tolist()) == sorted(latest.tolist())
    assert len(remembering) == size


def test_a_loaded_memory_goes_on_as_the_saved_one() -> None:
    saved = CrossBatchMemory(SplitInfoNCELoss(), 3, size=8, warm_up=1)
    for seed in range(2):
        saved(batch(seed), LABELS)
    loaded = CrossBatchMemory(SplitInfoNCELoss(), 3, size=8, warm_up=1)
    loaded.load_state_dict(saved.state_dict())
    for seed in range(2, 5):
        assert loaded(batch(seed), LABELS) == saved(batch(seed), LABELS)


def test_a_memory_of_another_size_is_not_loaded() -> None:
    state = CrossBatchMemory(SplitInfoNCELoss(), 3, size=8).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch for embeddings"):
        CrossBatchMemory(SplitInfoNCELoss(), 3, size=9).load_state_dict(state)


def test_half_precision_batches_are_stored_in_single_precision() -> None:
    remembering = CrossBatchMemory(SplitInfoNCELoss(), 3)
    for seed in range(2):
        leaf = batch(seed).to(torch.bfloat16).requires_grad_()
        remembering(leaf, LABELS).backward()
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert remembering.embeddings.dtype == torch.float32


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_not_finite_in_the_memory_leaves_its_place_as_it_was(bad: float) -> None:
    remembering = CrossBatchMemory(SplitInfoNCELoss(), 3, size=6)
    remembering(batch(0), LABELS)
    second = batch(1).double()
    second[1, 2] = second[4, 0] = bad
    remembering(second, LABELS + 3)
    expected, labels = batch(1), LABELS + 3
    expected[[1, 4]], labels[[1, 4]] = batch(0)[[1, 4]], LABELS[[1, 4]]
    torch.testing.assert_close(remembering.embeddings, expected)
    assert remembering.labels.tolist() == labels.tolist()


@every_loss
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_batch_spoils_its_own_loss_alone(loss: SplitLoss, bad: float) -> None:
    remembering, never = (CrossBatchMemory(loss, 3, size=12) for _ in range(2))
    never(batch(0), LABELS)
    remembering(batch(0), LABELS)
    spoilt = batch(1)
    spoilt[2, 1] = bad
    assert remembering(spoilt, LABELS).isnan()
    found = batch(2).requires_grad_()
    value = remembering(found, LABELS)
    value.backward()
    assert found.grad is not None
    assert value.isfinite() and found.grad.isfinite().all()

    for seed in range(3, 5):
        remembering(batch(seed), LABELS)
        never(batch(seed), LABELS)
    torch.testing.assert_close(remembering(batch(5), LABELS), never(batch(5), LABELS))


@every_loss
def test_a_place_that_never_held_anything_is_nobodys_positive(loss: SplitLoss) -> None:
    remembering = CrossBatchMemory(loss, 3)
    assert remembering(torch.full((6, 3), math.nan), LABELS).isnan()
    positive, entropy = remembering.terms(batch(0), LABELS)
    torch.testing.assert_close(positive, loss.terms(batch(0), LABELS).positive)
    assert entropy.isfinite()


class SumLoss(SplitLoss):
    def terms(self, embeddings: Tensor, *_: Any, **__: Any) -> SplitTerms:
        return SplitTerms(embeddings.sum(), embeddings.sum())

    def _entropy(self, *_: Any) -> Tensor:
        raise AssertionError


def test_the_memory_does_not_ask_for_values() -> None:
    remembering = CrossBatchMemory(SumLoss(), 3, size=8).to("meta")
    for seed in range(3):
        remembering(batch(seed).to("meta"), LABELS.to("meta"))
    assert len(remembering) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding_dim": 0}, "`embedding_dim` is 0, it must be a whole number of at least 1"),
        ({"size": 2.5}, "`size` is 2.5, it must be a whole number of at least 1"),
        ({"warm_up": -1}, "`warm_up` is -1, it must be a whole number of at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossBatchMemory(SplitInfoNCELoss(), **{"embedding_dim": 3, **arguments})


def test_a_loss_over_ranks_has_no_memory() -> None:
    with pytest.raises(ValueError, match="`loss` gathers over ranks"):
        CrossBatchMemory(SplitInfoNCELoss(gather=True), 3)


@pytest.mark.parametrize("loss", [torch.nn.CrossEntropyLoss(), SplitInfoNCELoss])
def test_what_has_no_terms_has_no_memory(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"`loss` is .*, it must be a SplitLoss\."):
        CrossBatchMemory(loss, 3)


def test_embeddings_of_another_dimension_are_refused() -> None:
    remembering = CrossBatchMemory(SplitInfoNCELoss(), 4)
    with pytest.raises(ValueError, match="`embeddings` have 3 dimensions, .* 4"):
        remembering(batch(0), LABELS)


@pytest.mark.parametrize(
    ("embeddings", "labels", "name"),
    [(batch(0)[0], LABELS, "embeddings"), (batch(0), LABELS[:, None], "labels")],
    ids=["one row", "column of labels"],
)
def test_other_shapes_are_refused_by_a_filled_memory(
    embeddings: Tensor, labels: Tensor, name: str
) -> None:
    remembering = CrossBatchMemory(SplitInfoNCELoss(), 3)
    remembering(batch(0), LABELS)
    with pytest.raises(ValueError, match=f"`{name}` has shape"):
        remembering(embeddings, labels)


def test_example_runs() -> None:
    results = doctest.testmod(memory)
    assert results.attempted > 0 and results.failed == 0
