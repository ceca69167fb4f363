"""Models: a backbone and the head that makes embeddings of its features."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch import Tensor

from cbal_optuna.training.backbone import Backbone


LINEAR = "linear"
MLP = "mlp"
HEADS = (LINEAR, MLP)

# Values of a byte.
_BYTES = 256


class EmbeddingModel(nn.Module):
    """Backbone and head: images (n, 3, size, size) to embeddings (n, embedding_dim).

    Args:
        backbone:
            From images to features.
        embedding_dim:
            Width of the embeddings.
        head:
            ``"linear"``, or ``"mlp"`` for a hidden layer as wide as the features, with BatchNorm
            and ReLU: the projection head of self-supervised learning, whose features serve better
            than its embeddings.
    """

    def __init__(self, backbone: Backbone, embedding_dim: int, head: str = LINEAR) -> None:
        super().__init__()
        assert head in HEADS
        width = backbone.width
        self.embedding_dim = embedding_dim
        self.backbone = backbone
        self.head: nn.Module = nn.Linear(width, embedding_dim)
        if head == MLP:
            hidden = (nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
            self.head = nn.Sequential(*hidden, self.head)

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.backbone(images))
        return embeddings

    @torch.no_grad()
    def embedded(self, features: Tensor) -> Tensor:
        """The embeddings of features (n, width), by the head in evaluation mode."""
        training = self.head.training
        embeddings: Tensor = self.head.eval()(features)
        self.head.train(training)
        return embeddings


class FeatureHead(nn.Module):
    """The head alone, on the features of a frozen backbone: (n, width) to (n, embedding_dim).

    The mean of the training features is taken off, all are divided by their mean standard
    deviation, then a dropout, then the linear head. Divided each by its own, features that hardly
    vary in training would outweigh all others on images where they do.

    Args:
        features:
            The training features, of shape (n, width).
        embedding_dim:
            Width of the embeddings.
        dropout:
            Share of the features that are left out in training, taken to whole 256ths.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: Tensor, embedding_dim: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("scale", features.std(0).mean().clamp_min(1e-6))
        self.dropout = dropout
        self.head = nn.Linear(features.shape[1], embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        features = features - self.mean
        if self.training:
            dropped = round(_BYTES * self.dropout)
            features.mul_(_random_bytes(features) >= dropped)
            features.mul_(_BYTES / (_BYTES - dropped) / self.scale)
        else:
            features.div_(self.scale)
        embeddings: Tensor = self.head(features)
        return embeddings

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """One linear layer that does the same in evaluation mode, on the CPU."""
        folded = deepcopy(self.head).cpu()
        weight = folded.weight.double() / self.scale.cpu()
        folded.bias.sub_(weight @ self.mean.double().cpu())
        folded.weight.copy_(weight)
        return folded


def _random_bytes(like: Tensor) -> Tensor:
    """From 0 to 255, alike probable, in the shape of a tensor; eight of each number drawn, as
    drawing takes the time on a CPU, where torch's own dropout takes four times as long."""
    n = like.numel()
    words = torch.empty(-(-n // 8), dtype=torch.int64, device=like.device)
    return words.random_(-(2**63), None).view(torch.uint8)[:n].view(like.shape)
