from __future__ import annotations

from collections.abc import Callable
import gc
from typing import TypeVar
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.training import is_out_of_memory
from cbal_optuna.training import MicroBatches
from cbal_optuna.training.micro_batches import BeforeStep


Result = TypeVar("Result")


class Limited:
    """A step for which a number of images is too many, after it has changed what a forward pass
    changes."""

    def __init__(self, limit: int, model: nn.Module, images: Tensor) -> None:
        self.limit = limit
        self.tried: list[int] = []
        self._model, self._images = model, images

    def __call__(self, micro_batch: int) -> float:
        self.tried.append(micro_batch)
        drawn = torch.rand(1).item()
        self._model(self._images[:micro_batch])
        if micro_batch > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return drawn


def step_of(limit: int, n: int = 100) -> tuple[nn.Module, Tensor, Limited]:
    model, images = nn.BatchNorm1d(3), torch.randn(n, 3)
    return model, images, Limited(limit, model, images)


def run(
    micro_batches: MicroBatches, model: nn.Module, images: Tensor, step: Callable[[int], Result]
) -> Result:
    return micro_batches.run(BeforeStep(model, images.device), len(images), step)


def quietly(
    micro_batches: MicroBatches, model: nn.Module, images: Tensor, step: Callable[[int], Result]
) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(micro_batches, model, images, step)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("DefaultCPUAllocator"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_errors_for_lack_of_memory_are_told_from_others(
    error: BaseException, expected: bool
) -> None:
    assert is_out_of_memory(error) == expected


@pytest.mark.parametrize(
    ("limit", "tried"),
    [(100, [100]), (50, [100, 50]), (49, [100, 50, 25]), (4, [100, 50, 25, 13, 7, 4])],
)
def test_a_step_is_repeated_with_halves_until_it_fits(limit: int, tried: list[int]) -> None:
    model, images, step = step_of(limit)
    quietly(MicroBatches("auto"), model, images, step)
    assert step.tried == tried


def test_what_fits_is_kept_for_batches_of_all_sizes() -> None:
    model, images, step = step_of(30)
    micro_batches = MicroBatches("auto")
    assert micro_batches.size(100) == 100
    quietly(micro_batches, model, images, step)
    quietly(micro_batches, model, images, step)
    quietly(micro_batches, model, images[:10], step)
    assert step.tried == [100, 50, 25, 25, 10]
    assert [micro_batches.size(n) for n in (100, 25, 10)] == [25, 25, 10]


def test_a_repeated_step_begins_where_the_first_one_did() -> None:
    model, images, step = step_of(25)
    torch.manual_seed(7)
    drawn = quietly(MicroBatches("auto"), model, images, step)

    other = nn.BatchNorm1d(3)
    torch.manual_seed(7)
    assert drawn == torch.rand(1).item()
    other(images[:25])
    torch.testing.assert_close(dict(model.named_buffers()), dict(other.named_buffers()))


def test_a_step_that_fails_holds_no_memory_when_it_is_repeated() -> None:
    model, images, _ = step_of(0)
    held: list[weakref.ref[Tensor]] = []

    def step(micro_batch: int) -> bool:
        if held:
            return held[0]() is None
        activations = images * 2
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError

    gc.disable()
    try:
        assert quietly(MicroBatches("auto"), model, images, step)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("micro_batch", "tried"), [("auto", [100, 50, 25, 13, 7, 4]), ("whole", [100]), (32, [32])]
)
def test_a_step_that_never_fits_says_so(micro_batch: int | str, tried: list[int]) -> None:
    model, images, step = step_of(0)
    with pytest.raises(torch.OutOfMemoryError):
        quietly(MicroBatches(micro_batch), model, images, step)
    assert step.tried == tried


def test_other_errors_are_not_repeated() -> None:
    model, images, _ = step_of(0)
    tried: list[int] = []

    def step(micro_batch: int) -> float:
        tried.append(micro_batch)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run(MicroBatches("auto"), model, images, step)
    assert tried == [100]


def test_there_is_one_warning_of_what_was_found() -> None:
    model, images, step = step_of(30)
    micro_batches = MicroBatches("auto")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            run(micro_batches, model, images, step)
    (warning,) = caught
    assert "a batch of 100 does not fit into memory: 25 images at a time" in str(warning.message)


@pytest.mark.parametrize("micro_batch", [0, -1, "half", 2.5, None])
def test_what_is_no_micro_batch_is_named(micro_batch: int | str) -> None:
    with pytest.raises(ValueError, match="`micro_batch` is"):
        MicroBatches(micro_batch)
