"""The losses that are compared: ours, those of other packages, and plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math
from typing import Literal
from typing import NamedTuple

from lightly.loss import DCLLoss
from lightly.loss import NTXentLoss as TwoViewNTXentLoss
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.losses import NTXentLoss
from pytorch_metric_learning.losses import SupConLoss
import torch
from torch import Tensor
import torch.nn.functional as F

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna import SplitMarginLoss


PER_CLASS = 4
TEMPERATURE = 0.1
MARGIN = 0.5


class Batch(NamedTuple):
    """Embeddings (n x d), their labels, and the same embeddings as two views of n / 2 images."""

    embeddings: Tensor
    labels: Tensor
    views: tuple[Tensor, Tensor]


Step = Callable[[Batch], None]


@dataclass(frozen=True)
class Contender:
    """A loss, or the matrix product that losses are bounded by.

    Attributes:
        step: One forward and backward pass.
        kind: What it is compared with. The product belongs to both.
        exponent: Of n, in its time and memory at most.
    """

    name: str
    by: Literal["ours", "peer", "bound"]
    kind: Literal["InfoNCE", "margin", "both"]
    step: Step
    exponent: int = 2


def random_batch(n: int, d: int, dtype: torch.dtype, device: str) -> Batch:
    """Classes in random order, whose samples have similarities of about 0.6."""
    generator = torch.Generator().manual_seed(n)
    labels = torch.randperm(n, generator=generator) // PER_CLASS
    centres = torch.randn(-(-n // PER_CLASS), d, generator=generator)
    embeddings = centres[labels] + 0.8 * torch.randn(n, d, generator=generator)
    embeddings = embeddings.to(device, dtype)
    first, second = (half.clone().requires_grad_() for half in embeddings.chunk(2))
    return Batch(embeddings.requires_grad_(), labels.to(device), (first, second))


def of_labels(loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
    def step(batch: Batch) -> None:
        batch.embeddings.grad = None
        loss(batch.embeddings, batch.labels).backward()

    return step


def of_views(loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
    """For losses without labels: 2 per class."""

    def step(batch: Batch) -> None:
        for view in batch.views:
            view.grad = None
        loss(*batch.views).backward()

    return step


def matrix_product(batch: Batch) -> None:
    """All similarities, 2 n^2 d operations, by rows into one block: the fastest way, as nothing is
    as large as n x n.
    """
    embeddings = batch.embeddings.detach()
    rows = embeddings.split(4096 if embeddings.is_cuda else 512)
    block = embeddings.new_empty(len(rows[0]), len(embeddings))
    for some in rows:
        torch.mm(some, embeddings.T, out=block[: len(some)])


def plain_infonce(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = TEMPERATURE,
    denominator: str = "negatives",
) -> Tensor:
    """What `SplitInfoNCELoss` computes at balance 1, where every anchor has a positive."""
    similarity, positive, negative = plain_pairs(embeddings, labels)
    among = negative if denominator == "negatives" else positive | negative
    logits = (similarity / temperature).masked_fill(~among, -math.inf)
    entropy = temperature * (logits.logsumexp(dim=1) - among.sum(dim=1, dtype=logits.dtype).log())
    return plain_positive(similarity, positive) + entropy.mean()


def plain_margin(embeddings: Tensor, labels: Tensor) -> Tensor:
    """What `SplitMarginLoss` computes at balance 1, where every anchor has a positive."""
    similarity, positive, negative = plain_pairs(embeddings, labels)
    excess = F.relu(similarity - MARGIN) * negative
    return plain_positive(similarity, positive) + excess.sum() / negative.sum()


def plain_pairs(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Similarities in float32 at least, and who is positive and negative to whom."""
    unit = F.normalize(embeddings, dim=1)
    similarity = unit @ unit.T
    if similarity.dtype == torch.bfloat16:
        similarity = similarity.float()
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return similarity, same & ~itself, ~same


def plain_positive(similarity: Tensor, positive: Tensor) -> Tensor:
    return -((similarity * positive).sum(dim=1) / positive.sum(dim=1)).mean()


INFONCE = SplitInfoNCELoss(balance=1.0, temperature=TEMPERATURE)
INFONCE_ALL = SplitInfoNCELoss(balance=1.0, temperature=TEMPERATURE, denominator="all")
COSINE = ContrastiveLoss(pos_margin=1, neg_margin=MARGIN, distance=CosineSimilarity())

SUPCON = "PML SupConLoss"
CONTENDERS = (
    Contender("SplitInfoNCELoss", "ours", "InfoNCE", of_labels(INFONCE)),
    Contender("SplitInfoNCELoss, all", "ours", "InfoNCE", of_labels(INFONCE_ALL)),
    Contender(
        "SplitMarginLoss",
        "ours",
        "margin",
        of_labels(SplitMarginLoss(margin=MARGIN, aggregation="all")),
    ),
    Contender(SUPCON, "peer", "InfoNCE", of_labels(SupConLoss(TEMPERATURE))),
    Contender("PML NTXentLoss", "peer", "InfoNCE", of_labels(NTXentLoss(TEMPERATURE)), 3),
    Contender("lightly NTXentLoss", "peer", "InfoNCE", of_views(TwoViewNTXentLoss(TEMPERATURE))),
    Contender("lightly DCLLoss", "peer", "InfoNCE", of_views(DCLLoss(TEMPERATURE))),
    Contender("plain InfoNCE", "peer", "InfoNCE", of_labels(plain_infonce)),
    Contender("PML ContrastiveLoss", "peer", "margin", of_labels(ContrastiveLoss())),
    Contender("PML ContrastiveLoss, cosine", "peer", "margin", of_labels(COSINE)),
    Contender("plain margin", "peer", "margin", of_labels(plain_margin)),
    Contender("matrix product", "bound", "both", matrix_product),
)
