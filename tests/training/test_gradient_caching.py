from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any
import weakref

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
from timm.layers.evo_norm import EvoNorm2dB0
from timm.layers.norm_act import BatchNormAct2d
import torch
from torch import nn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.training import cached_forward


Forward = Callable[[nn.Module, Tensor], Tensor]


def encoder_of(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 6, 3)
    rest = (nn.GELU(), *layers, nn.Conv2d(6, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(convolution, *rest, nn.Linear(6, 4)).double()


def images(n: int = 12) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def gradients(encoder: nn.Module, batch: Tensor, forward: Forward) -> dict[str, Tensor]:
    """Of a loss that couples all images; embeddings, buffers and random state beside them."""
    torch.manual_seed(2)
    encoder.zero_grad()
    embeddings = forward(encoder, batch)
    # Classes are spread over the chunks.
    SplitInfoNCELoss(balance=2.0)(embeddings, torch.arange(len(batch)) % 3).backward()
    found = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    state = {"embeddings": embeddings.detach(), "random state": torch.get_rng_state()}
    return {**found, **buffers, **state}  # type: ignore[dict-item]


def plain(encoder: nn.Module, batch: Tensor) -> Tensor:
    embeddings: Tensor = encoder(batch)
    return embeddings


def in_three_chunks(encoder: nn.Module, batch: Tensor) -> Tensor:
    """With all activations kept."""
    return torch.cat([encoder(chunk) for chunk in batch.tensor_split(3)])


def cached_in_three(encoder: nn.Module, batch: Tensor) -> Tensor:
    return cached_forward(encoder, batch, -(-len(batch) // 3))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 20), micro_batch=st.integers(1, 30))
def test_the_gradient_is_that_of_the_whole_batch(n: int, micro_batch: int) -> None:
    encoder = encoder_of(nn.LayerNorm(6))
    expected = gradients(encoder, images(n), plain)
    assert expected["0.weight"].norm() > 1e-4
    assert_same(
        gradients(encoder, images(n), lambda e, x: cached_forward(e, x, micro_batch)), expected
    )


@pytest.mark.parametrize(("n", "micro_batch"), [(12, 4), (13, 4), (5, 4), (4, 4), (3, 4), (1, 4)])
def test_no_chunk_is_larger_than_asked_for_and_all_are_alike(n: int, micro_batch: int) -> None:
    encoder = encoder_of()
    sizes: list[int] = []
    encoder[0].register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        cached_forward(encoder, images(n), micro_batch)
    assert sum(sizes) == n and max(sizes) <= micro_batch
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("micro_batch", [0, 2.5, "2"])
def test_a_micro_batch_is_a_whole_number(micro_batch: Any) -> None:
    with pytest.raises(ValueError, match=f"`micro_batch` is {micro_batch!r}; .* whole number of"):
        cached_forward(encoder_of(), images(), micro_batch)


@pytest.mark.parametrize(("micro_batch", "n_passes"), [(12, 1), (6, 3), (4, 5), (1, 23)])
def test_all_chunks_but_the_last_are_computed_twice(micro_batch: int, n_passes: int) -> None:
    encoder = encoder_of()
    passes: list[int] = []
    encoder[0].register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    gradients(encoder, images(), lambda e, x: cached_forward(e, x, micro_batch))
    assert len(passes) == n_passes


def test_dropout_leaves_out_the_same_when_computed_again() -> None:
    encoder = encoder_of(nn.Dropout(0.5))
    kept = gradients(encoder, images(), in_three_chunks)
    assert_same(gradients(encoder, images(), cached_in_three), kept)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d, BatchNormAct2d, EvoNorm2dB0])
def test_running_statistics_are_updated_once_for_each_chunk(layer: type[nn.Module]) -> None:
    encoder = encoder_of(layer(6))
    expected = gradients(deepcopy(encoder), images(), in_three_chunks)
    found = gradients(encoder, images(), cached_in_three)
    assert not torch.equal(found["2.running_var"], torch.ones(6).double())
    assert_same(found, expected)


def test_without_being_frozen_batch_norm_takes_a_chunk_for_the_batch() -> None:
    encoder = encoder_of(nn.BatchNorm2d(6))
    whole = gradients(deepcopy(encoder), images(), plain)
    chunked = gradients(encoder, images(), cached_in_three)
    assert (whole["embeddings"] - chunked["embeddings"]).abs().max() > 1e-3


def with_statistics() -> nn.Sequential:
    """BatchNorm that has seen other images."""
    encoder = encoder_of(nn.BatchNorm2d(6))
    for k in range(20):
        encoder(images(12) + k / 10)
    return encoder


@pytest.mark.parametrize("micro_batch", [1, 5, 12])
def test_frozen_batch_norm_has_the_gradient_of_the_whole_batch(micro_batch: int) -> None:
    encoder = with_statistics()
    expected = gradients(deepcopy(encoder).eval(), images(), plain)

    def frozen(encoder: nn.Module, batch: Tensor) -> Tensor:
        return cached_forward(encoder, batch, micro_batch, batch_norm="frozen")

    found = gradients(encoder, images(), frozen)
    assert found["2.weight"].norm() > 1e-4
    assert_same(found, expected)
    assert all(module.training for module in encoder.modules())


def test_a_frozen_layer_stays_in_the_mode_it_was_in() -> None:
    encoder = encoder_of(nn.BatchNorm2d(6), nn.BatchNorm2d(6))
    encoder[2].eval()
    gradients(encoder, images(), lambda e, x: cached_forward(e, x, 5, batch_norm="frozen"))
    assert [encoder[2].training, encoder[3].training] == [False, True]


def test_batch_norm_without_running_statistics_cannot_be_frozen() -> None:
    encoder = encoder_of(nn.BatchNorm2d(6, track_running_stats=False))
    with pytest.raises(ValueError, match="`batch_norm` is 'frozen', but"):
        cached_forward(encoder, images(), 5, batch_norm="frozen")


def test_a_kept_graph_can_be_gone_through_again() -> None:
    """As to compare the gradients of the two terms."""
    encoder = encoder_of(nn.BatchNorm2d(6), nn.Dropout(0.3))
    found = []
    for forward in (in_three_chunks, cached_in_three):
        torch.manual_seed(0)
        terms = SplitInfoNCELoss().terms(forward(encoder, images()), torch.arange(12) % 3)
        found.append(
            [
                torch.autograd.grad(term, list(encoder.parameters()), retain_graph=True)
                for term in (terms.positive, terms.entropy, terms.positive)
            ]
        )
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found[1][0], found[1][2])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_only_the_embeddings_are_computed(
    context: Callable[[], AbstractContextManager[None]],
) -> None:
    encoder = encoder_of()
    with context():
        embeddings = cached_forward(encoder, images(), 5)
    assert not embeddings.requires_grad
    torch.testing.assert_close(embeddings, encoder(images()).detach())


def test_images_get_their_gradient_too() -> None:
    encoder = encoder_of()
    found = []
    for forward in (plain, cached_in_three):
        batch = images().requires_grad_()
        gradients(encoder, batch, forward)
        found.append(batch.grad)
    torch.testing.assert_close(found[1], found[0])


def test_autocast_is_replayed_outside_of_its_context() -> None:
    encoder = encoder_of(nn.Dropout(0.2)).float()

    def cast(forward: Forward) -> Forward:
        def embed(encoder: nn.Module, batch: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return forward(encoder, batch)

        return embed

    expected = gradients(encoder, images().float(), cast(in_three_chunks))
    assert expected["embeddings"].dtype == torch.bfloat16
    found = gradients(encoder, images().float(), cast(cached_in_three))
    # Sums of bfloat16 gradients over the chunks depend on their order.
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-4)


class PeakMemory(TorchDispatchMode):
    """The most bytes that the tensors made under it had at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage] = storage.nbytes()
        self.bytes = max(self.bytes, sum(self._alive.values()))
        return result


@pytest.mark.parametrize("n_chunks", [2, 4, 16])
def test_memory_is_that_of_one_chunk(n_chunks: int) -> None:
    def peak(micro_batch: int) -> int:
        with PeakMemory() as peak:
            # A view, so that the images are seen; they are kept by those who made them.
            cached_forward(encoder, batch[:], micro_batch).square().mean().backward()
        return peak.bytes - batch.nbytes

    encoder, batch = encoder_of(nn.GELU()), images(64).repeat(1, 1, 3, 3)
    assert 0.9 / n_chunks < peak(64 // n_chunks) / peak(64) < 1.1 / n_chunks


@pytest.mark.parametrize("argument", [{"micro_batch": 0}, {"batch_norm": "thawed"}])
def test_arguments_out_of_range_are_named(argument: dict[str, Any]) -> None:
    (name,) = argument
    with pytest.raises(ValueError, match=f"`{name}` is"):
        cached_forward(encoder_of(), images(), **{"micro_batch": 4, **argument})
