"""Steps that are repeated with smaller micro-batches when they run out of memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar
import warnings

import torch
from torch import nn
from torch import Tensor

from cbal_optuna.training.gradient_caching import check_micro_batch
from cbal_optuna.training.random_state import random_state
from cbal_optuna.training.random_state import set_random_state


AUTO = "auto"
WHOLE = "whole"
# No chunk of a larger batch is then left with one image, which BatchNorm refuses.
SMALLEST_MICRO_BATCH = 4

# Failed allocations for which torch has no class of its own: on the CPU and in CUDA's libraries.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, on the device or beside it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error) for s in _OUT_OF_MEMORY)


class BeforeStep:
    """What a step that fails half-way leaves changed: torch's random state and a model's buffers.

    Args:
        model, device:
            Whose, and where.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        # Buffers of one type are copied in one call: many are small.
        self._buffers: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for buffer in model.buffers():
            self._buffers[buffer.dtype].append(buffer)
        self._kept = {
            dtype: [torch.empty_like(buffer) for buffer in buffers]
            for dtype, buffers in self._buffers.items()
        }

    @torch.no_grad()
    def keep(self) -> None:
        """They are to be as they are now; does not wait for the device."""
        self._random = random_state(self._device)
        for dtype, buffers in self._buffers.items():
            torch._foreach_copy_(self._kept[dtype], buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """They are again what they were."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        for dtype, buffers in self._buffers.items():
            torch._foreach_copy_(buffers, self._kept[dtype])
        set_random_state(self._device, self._random)


class MicroBatches:
    """How many images go through a model at once; what is found to fit is kept.

    Args:
        micro_batch:
            A number of images; ``"whole"`` for the whole batch; ``"auto"`` for the whole batch
            until it runs out of memory, then half as many as often as needed, down to 4.

    Raises:
        ValueError: It is something else.
    """

    def __init__(self, micro_batch: int | str) -> None:
        self._halves = micro_batch == AUTO
        self._size: int | None = None
        if isinstance(micro_batch, int):
            check_micro_batch(micro_batch)
            self._size = micro_batch
        elif micro_batch not in (AUTO, WHOLE):
            raise ValueError(
                f"`micro_batch` is {micro_batch!r}; it should be a number of images, {AUTO!r} or "
                f"{WHOLE!r}."
            )

    @property
    def found(self) -> int | None:
        """What has been found to fit where a whole batch did not."""
        return self._size if self._halves else None

    @found.setter
    def found(self, size: int | None) -> None:
        if self._halves:
            self._size = size

    def size(self, batch_size: int) -> int:
        """Of the micro-batches of a batch."""
        return batch_size if self._size is None else min(self._size, batch_size)

    def run(self, before: BeforeStep, batch_size: int, step: Callable[[int], Result]) -> Result:
        """Do a step, again with smaller micro-batches if it runs out of memory.

        Args:
            before:
                Of the step's model; what it is restored to before it is repeated.
            batch_size:
                Of the step.
            step:
                Takes the size of the micro-batches; changes nothing else that lasts.

        Raises:
            Exception: What the step raised, unless it could be repeated.
        """
        first = size = self.size(batch_size)
        while True:
            smaller = -(-size // 2)
            repeatable = self._halves and smaller >= SMALLEST_MICRO_BATCH
            if repeatable:
                before.keep()
            try:
                result = step(size)
                break
            except (MemoryError, RuntimeError) as error:
                if not repeatable or not is_out_of_memory(error):
                    raise
            # Not before here, where no error holds the activations any more.
            before.restore()
            size = smaller
        if size < first:
            self._size = size
            warnings.warn(
                f"a batch of {batch_size} does not fit into memory: {size} images at a time go "
                "through the model, and BatchNorm, unless frozen, takes its statistics from them",
                stacklevel=2,
            )
        return result
