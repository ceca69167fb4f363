"""Gradient caching: a batch goes through the encoder in chunks, the loss sees all of it.

The loss couples all images of a batch, so the gradients of chunks with losses of their own are
another gradient. Here the embeddings of all chunks come together before the loss. What each chunk
needs for its backward pass is not kept but computed again when its turn comes, as Gao et al.,
"Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", do; here by torch's
activation checkpointing, which also replays the random state and autocast. So memory holds the
activations of one chunk, and the gradient is that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextlib import ExitStack
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from types import TracebackType

import torch
from torch import nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


TRAIN, FROZEN, SYNCHRONISED = "train", "frozen", "synchronised"
BATCH_NORM_MODES = (TRAIN, FROZEN, SYNCHRONISED)

_Contexts = tuple[AbstractContextManager[None], AbstractContextManager[None]]


def cached_forward(
    encoder: nn.Module, images: Tensor, micro_batch: int, *, batch_norm: str = "train"
) -> Tensor:
    """Embed a batch in chunks, such that the gradient of any loss of the embeddings is exact.

    At the price of a second forward pass of all chunks but the last one. Random state is replayed:
    a dropout leaves out the same in both passes. It draws for each chunk anew, so its masks are
    not those of the whole batch, though as good.

    BatchNorm is the one layer that tells chunks from the whole batch. In training mode it
    normalises each chunk by the chunk's own statistics: the gradient is exact for that function,
    which is another one than that of the whole batch. Statistics of the whole batch would take a
    pass through the encoder for each BatchNorm layer. Running statistics are updated once for each
    chunk. `batch_norm="frozen"` makes the result independent of the chunks, and suits pretrained
    weights. Several processes share the statistics of chunks through torch's ``SyncBatchNorm``, if
    all have the same number of chunks. Other layers treat each image by itself, in nearly all
    models.

    Under ``DistributedDataParallel``, the module that is wrapped should call this in its forward,
    as :class:`ChunkedForward` does, not be the encoder itself.

    Args:
        encoder:
            From images (n, ...) to embeddings (n, d).
        images:
            The batch, of shape (n, ...), on the encoder's device.
        micro_batch:
            The most images that go through the encoder at once; chunks are of one size, but for an
            image.
        batch_norm:
            ``"train"``, or ``"frozen"``: BatchNorm layers in training mode use their running
            statistics and leave them as they are; their weights are trained all the same. With
            ``"synchronised"`` they are to be torch's ``SyncBatchNorm`` already.

    Returns:
        The embeddings (n, d).

    Raises:
        ValueError: An argument is out of its range, or there are no running statistics to use.
    """
    check_micro_batch(micro_batch)
    check_batch_norm(batch_norm)
    mode = partial(_frozen_batch_norm, encoder) if batch_norm == FROZEN else nullcontext
    if len(images) <= micro_batch:
        with mode():
            return encoder(images)
    *chunks, last = images.tensor_split(_n_chunks(len(images), micro_batch))

    def contexts() -> _Contexts:
        return mode(), _Recomputation(mode, partial(_discarded_buffers, encoder))

    embeddings = [
        checkpoint(encoder, chunk, use_reentrant=False, context_fn=contexts) for chunk in chunks
    ]
    # The backward pass begins here, so it may as well find its activations.
    with mode():
        embeddings.append(encoder(last))
    return torch.cat(embeddings)


class ChunkedForward(nn.Module):
    """:func:`cached_forward` as a module.

    Args:
        encoder, batch_norm:
            As there.
    """

    def __init__(self, encoder: nn.Module, batch_norm: str) -> None:
        super().__init__()
        self.encoder = encoder
        self._batch_norm = batch_norm

    def forward(self, images: Tensor, micro_batch: int) -> Tensor:
        """The embeddings (n, d)."""
        return cached_forward(self.encoder, images, micro_batch, batch_norm=self._batch_norm)


def smallest_chunk(n_images: int, micro_batch: int) -> int:
    """Images in the smallest chunk of a batch."""
    return n_images // _n_chunks(n_images, micro_batch)


def _n_chunks(n_images: int, micro_batch: int) -> int:
    return max(1, -(-n_images // micro_batch))


def check_micro_batch(micro_batch: object) -> None:
    """Raises ValueError."""
    if not isinstance(micro_batch, Integral) or micro_batch < 1:
        raise ValueError(
            f"`micro_batch` is {micro_batch!r}; it should be a whole number of at least 1."
        )


def check_batch_norm(batch_norm: str) -> None:
    """Raises ValueError."""
    if batch_norm not in BATCH_NORM_MODES:
        raise ValueError(
            f"`batch_norm` is {batch_norm!r}; it should be one of {', '.join(BATCH_NORM_MODES)}."
        )


class _Recomputation(AbstractContextManager[None]):
    """Contexts that open again each time: a graph that is kept is gone through more than once."""

    def __init__(self, *contexts: Callable[[], AbstractContextManager[None]]) -> None:
        self._contexts = contexts
        self._opened = ExitStack()

    def __enter__(self) -> None:
        for context in self._contexts:
            self._opened.enter_context(context())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()


@contextmanager
def _discarded_buffers(encoder: nn.Module) -> Iterator[None]:
    """What layers write into their buffers, such as running statistics, is forgotten."""
    buffers = [
        (module, name, buffer)
        for module in encoder.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in buffers:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in buffers:
            setattr(module, name, buffer)


@contextmanager
def _frozen_batch_norm(encoder: nn.Module) -> Iterator[None]:
    layers = [m for m in encoder.modules() if isinstance(m, _BatchNorm) and m.training]
    if any(layer.running_mean is None for layer in layers):
        raise ValueError(
            "`batch_norm` is 'frozen', but the encoder has a BatchNorm layer without running "
            "statistics; it should be 'train'."
        )
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True
