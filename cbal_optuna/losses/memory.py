"""Past embeddings as further references, for more negatives than a batch holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cbal_optuna.losses.arguments import check_batch
from cbal_optuna.losses.split import SplitLoss
from cbal_optuna.losses.split import SplitTerms
from cbal_optuna.losses.tiled import TiledLoss


_NO_CLASS = torch.iinfo(torch.int64).min


class CrossBatchMemory(torch.nn.Module):
    """A split loss whose references are the batch and the embeddings of the latest batches before.

    The latest embeddings of a slowly changing encoder are good stand-ins for fresh ones (Wang,
    Zhang, Huang and Scott, "Cross-Batch Memory for Embedding Learning", 2020). No gradient goes
    into the memory; that between the samples of the batch goes into both, as without a memory.
    What is stored, and how much of it, is in the state dict. In `eval` mode nothing is stored.

    An embedding that is not finite makes the loss of its batch NaN and is not stored: its place
    keeps what it had, at first a zero of no class, which has similarity 0 to all.

    Args:
        loss: The loss. Its balance and temperature or margin mean the same, but a batch with a
            memory is a larger batch.
        embedding_dim: Of the embeddings.
        size: How many embeddings are kept, the oldest giving way to new ones.
        warm_up: For how many batches the memory is only filled, as embeddings change fast at the
            start of a training.

    Raises:
        ValueError: If a number is out of its range, or the loss is no split loss, or gathers over
            ranks.

    Example:

        >>> import torch
        >>> from cbal_optuna.losses import CrossBatchMemory
        >>> from cbal_optuna.losses import SplitInfoNCELoss
        >>> loss = CrossBatchMemory(SplitInfoNCELoss(), embedding_dim=2, size=4)
        >>> labels = torch.tensor([0, 0, 1])
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), labels)
        tensor(-1.)
        >>> loss
        CrossBatchMemory(
          3 of 4 stored, warm_up=0
          (loss): SplitInfoNCELoss(balance=1.5, temperature=0.1, denominator='negatives')
        )
    """

    embeddings: Tensor
    labels: Tensor

    def __init__(
        self, loss: SplitLoss, embedding_dim: int, size: int = 4096, *, warm_up: int = 0
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("embedding_dim", embedding_dim, 1),
            ("size", size, 1),
            ("warm_up", warm_up, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"`{name}` is {value!r}, it must be a whole number of at least {least}."
                )
        if not isinstance(loss, SplitLoss):
            raise ValueError(f"`loss` is {loss!r}, it must be a SplitLoss.")
        if isinstance(loss, TiledLoss) and loss.gather:
            raise ValueError("`loss` gathers over ranks, with a memory it must be local.")
        self.loss = loss
        self.warm_up = warm_up
        self.register_buffer("embeddings", torch.zeros(size, embedding_dim))
        self.register_buffer("labels", torch.full((size,), _NO_CLASS))
        self._n_batches = 0
        self._n_seen = 0

    def __len__(self) -> int:
        """How many embeddings are stored."""
        return min(self._n_seen, len(self.embeddings))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss, a 0-d tensor; arguments as in `terms`."""
        return self.balanced(self.terms(embeddings, labels))

    def balanced(self, terms: SplitTerms) -> Tensor:
        """The loss whose terms these are."""
        return self.loss.balanced(terms)

    def terms(self, embeddings: Tensor, labels: Tensor) -> SplitTerms:
        """The two terms, neither of them weighted; then the batch is stored.

        Args:
            embeddings: (n, embedding_dim).
            labels: Their classes, (n,) integers.

        Raises:
            ValueError: As `SplitLoss.terms` does.
        """
        check_batch("embeddings", embeddings, "labels", labels)
        if embeddings.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"`embeddings` have {embeddings.shape[1]} dimensions, they must have those of the "
                f"memory: {self.embeddings.shape[1]}."
            )
        n_stored = len(self)
        if n_stored == 0 or self._n_batches < self.warm_up:
            terms = self.loss.terms(embeddings, labels)
        else:
            labels = labels.to(embeddings.device)
            terms = self.loss.terms(
                embeddings,
                labels,
                ref_emb=torch.cat([embeddings, self.embeddings[:n_stored]]),
                ref_labels=torch.cat([labels, self.labels[:n_stored]]),
                self_start=0,
            )
        if self.training:
            self._store(embeddings.detach(), labels)
        return terms

    def _store(self, embeddings: Tensor, labels: Tensor) -> None:
        size = len(self.embeddings)
        kept = embeddings[-size:].to(self.embeddings)
        first = self._n_seen + len(embeddings) - len(kept)
        places = torch.arange(first, first + len(kept), device=self.embeddings.device) % size
        # Chosen on the device, which the step does not wait for.
        finite = kept.isfinite().all(dim=1)
        self.embeddings[places] = torch.where(finite[:, None], kept, self.embeddings[places])
        kept_labels = labels[-size:].to(self.labels)
        self.labels[places] = torch.where(finite, kept_labels, self.labels[places])
        self._n_seen += len(embeddings)
        self._n_batches += 1

    def get_extra_state(self) -> dict[str, int]:
        return {"n_batches": self._n_batches, "n_seen": self._n_seen}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._n_batches, self._n_seen = state["n_batches"], state["n_seen"]

    def extra_repr(self) -> str:
        return f"{len(self)} of {len(self.embeddings)} stored, warm_up={self.warm_up}"
