"""How far the gradients of float32 and bfloat16 are from those of float64."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
import itertools
from typing import Any
from typing import NamedTuple

from loss_peers import PER_CLASS
from loss_peers import plain_infonce
from loss_peers import plain_pairs
from loss_peers import SUPCON
from pytorch_metric_learning.losses import NTXentLoss
from pytorch_metric_learning.losses import SupConLoss
import torch
from torch import Tensor
import torch.nn.functional as F

from cbal_optuna import SplitInfoNCELoss


TEMPERATURES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# n and the number of batches: small ones, and a large one.
BATCHES = ((64, 10), (2048, 1))
QUICK_BATCHES = ((64, 10),)
_DIMENSIONS = 128
_CUBIC_UP_TO = 64

Loss = Callable[[Tensor, Tensor], Tensor]


class Pair(NamedTuple):
    """A loss at a temperature, and the plain formula of it."""

    loss: Loss
    formula: Loss


def accuracy_rows(batches: tuple[tuple[int, int], ...], device: str) -> Iterator[dict[str, Any]]:
    """The largest relative error (Euclidean norm) of the gradient over random batches.

    Embeddings do not know their classes, so that positives are no closer than negatives: small
    temperatures then have the largest logits. What rounding the inputs changes is not counted;
    what rounding the exact gradient to the type changes is the loss "exact, rounded".
    """
    dtypes = (torch.float32, torch.bfloat16)
    for (n, n_batches), dtype, temperature in itertools.product(batches, dtypes, TEMPERATURES):
        for name, pair in pairs(temperature).items():
            if name != "PML NTXentLoss" or n <= _CUBIC_UP_TO:
                errors = [
                    error(pair, hard_batch(n, seed, device), dtype) for seed in range(n_batches)
                ]
                yield {
                    "loss": name,
                    "n": n,
                    "dtype": str(dtype).removeprefix("torch."),
                    "temperature": temperature,
                    "error": float(f"{max(errors):.2g}"),
                }


def pairs(temperature: float) -> dict[str, Pair]:
    of_negatives = partial(plain_infonce, temperature=temperature)
    of_all = partial(plain_infonce, temperature=temperature, denominator="all")
    return {
        "SplitInfoNCELoss": Pair(
            SplitInfoNCELoss(balance=1.0, temperature=temperature), of_negatives
        ),
        "SplitInfoNCELoss, all": Pair(
            SplitInfoNCELoss(balance=1.0, temperature=temperature, denominator="all"), of_all
        ),
        SUPCON: Pair(SupConLoss(temperature), lambda x, y: of_all(x, y) / temperature),
        "PML NTXentLoss": Pair(NTXentLoss(temperature), partial(plain_ntxent, temperature)),
        "exact, rounded": Pair(of_negatives, of_negatives),
    }


def plain_ntxent(temperature: float, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mean over pairs of anchor and positive, with this positive and all negatives below."""
    similarity, positive, negative = plain_pairs(embeddings, labels)
    logits = similarity / temperature
    against = logits.masked_fill(~negative, float("-inf")).logsumexp(dim=1, keepdim=True)
    return F.softplus(against - logits)[positive].mean()


def hard_batch(n: int, seed: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, _DIMENSIONS, generator=generator)
    return embeddings.to(device), torch.arange(n, device=device) // PER_CLASS


def error(pair: Pair, batch: tuple[Tensor, Tensor], dtype: torch.dtype) -> float:
    embeddings, labels = batch
    rounded = embeddings.to(dtype)
    exact = gradient(pair.formula, rounded.double(), labels)
    if pair.loss is pair.formula:
        found = exact.to(dtype)
    else:
        found = gradient(pair.loss, rounded, labels)
    return float((found.double() - exact).norm() / exact.norm())


def gradient(loss: Loss, embeddings: Tensor, labels: Tensor) -> Tensor:
    leaf = embeddings.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, labels), leaf)[0]
