"""A loss over the samples of all ranks, of which each computes its own rows.

A rank holds the embeddings of all, but only its own rows of their similarities. Values are those
of the whole batch, on every rank. Gradients with respect to a rank's embeddings are multiplied by
the number of ranks, because DistributedDataParallel divides those of the parameters by it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed
from torch import Tensor
from torch.autograd.function import once_differentiable

from cbal_optuna.losses.pairing import Pairing


def is_distributed() -> bool:
    """Whether there are other ranks."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def gathered(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Pairing]:
    """The embeddings of all ranks, (m, d), and each rank's pairs with them.

    Raises:
        ValueError: If not all ranks have embeddings of the same shape.
    """
    labels = labels.to(embeddings.device, torch.int64)
    shape = torch.tensor(embeddings.shape, device=embeddings.device)
    shapes = [tuple(other.tolist()) for other in _all_gather(shape)]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"`embeddings` have the shapes {shapes} on the ranks, with `gather=True` they must be "
            "equal: leave out an incomplete last batch."
        )
    references = _Gathered.apply(embeddings)
    start = distributed.get_rank() * len(embeddings)
    pairing = Pairing(labels, torch.cat(_all_gather(labels)), start, over_ranks=True)
    return references, pairing


def summed_over_ranks(numbers: list[Tensor]) -> list[Tensor]:
    """Of 0-d tensors, float64."""
    packed = torch.stack([number.to(torch.float64) for number in numbers])
    distributed.all_reduce(packed)
    return list(packed)


class _Gathered(torch.autograd.Function):
    """The rows of all ranks; the gradient is the sum of what all ranks have for a rank's rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return torch.cat(_all_gather(tensor))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient.chunk(distributed.get_world_size())[distributed.get_rank()]


def _all_gather(tensor: Tensor) -> list[Tensor]:
    found = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, tensor.contiguous())
    return found
