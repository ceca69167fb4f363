"""This file is also what each rank runs: ``test_distributed.py STORE N_RANKS RANK``."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import distributed
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss


pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch.distributed has no gloo",
)

SETTINGS: list[tuple[type[SplitLoss], dict[str, Any]]] = [
    (SplitInfoNCELoss, {"balance": 2.0, "temperature": 0.2}),
    (SplitInfoNCELoss, {"balance": 2.0, "temperature": 0.02, "denominator": "all"}),
    (SplitMarginLoss, {"balance": 2.0, "margin": 0.1}),
    (SplitMarginLoss, {"balance": 2.0, "margin": 0.1, "aggregation": "nonzero"}),
    (SplitMarginLoss, {"balance": 2.0, "margin": 0.1, "aggregation": "anchor_sum"}),
]
N, DIMENSIONS = 24, 5


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N, DIMENSIONS, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 7, (N,), generator=generator)


def encoder() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(DIMENSIONS, 3, dtype=torch.float64)


def run_rank(store: str, n_ranks: int, rank: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(store, n_ranks), rank=rank, world_size=n_ranks
    )
    steps_equal_those_of_one_process(rank, n_ranks)
    float32_gradients_equal_those_of_one_process(rank, n_ranks)
    half_precision_gradients_are_rounded_once(rank, n_ranks)
    uneven_batches_are_refused_everywhere(rank)
    second_derivatives_are_refused()
    distributed.destroy_process_group()


def steps_equal_those_of_one_process(rank: int, n_ranks: int) -> None:
    for kind, arguments in SETTINGS:
        images, labels = inputs()
        parameter = "temperature" if kind is SplitInfoNCELoss else "margin"
        learned = torch.tensor(arguments[parameter], dtype=torch.float64)

        whole, one = encoder(), torch.nn.Parameter(learned.clone())
        loss = kind(**{**arguments, parameter: one})(whole(images), labels)
        loss.backward()

        share = slice(rank * N // n_ranks, (rank + 1) * N // n_ranks)
        model, own = DistributedDataParallel(encoder()), torch.nn.Parameter(learned.clone())
        gathering = kind(**{**arguments, parameter: own}, gather=True)
        found = gathering(model(images[share]), labels[share])
        found.backward()

        torch.testing.assert_close(found, loss, rtol=1e-10, atol=1e-12)
        for a, b in zip(model.parameters(), whole.parameters()):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(own.grad, one.grad, rtol=1e-10, atol=1e-12)


def float32_gradients_equal_those_of_one_process(rank: int, n_ranks: int) -> None:
    for kind, arguments in SETTINGS:
        images, labels = inputs()
        whole = images.float().requires_grad_()
        kind(**arguments)(whole, labels).backward()
        share = slice(rank * N // n_ranks, (rank + 1) * N // n_ranks)
        own = images[share].float().requires_grad_()
        kind(**arguments, gather=True)(own, labels[share]).backward()
        assert own.grad is not None and whole.grad is not None
        torch.testing.assert_close(own.grad / n_ranks, whole.grad[share], rtol=1e-5, atol=1e-6)


def half_precision_gradients_are_rounded_once(rank: int, n_ranks: int) -> None:
    for kind, arguments in SETTINGS:
        images, labels = inputs()
        images = images.to(torch.bfloat16)
        whole = images.double().requires_grad_()
        kind(**arguments)(whole, labels).backward()
        share = slice(rank * N // n_ranks, (rank + 1) * N // n_ranks)
        own = images[share].clone().requires_grad_()
        kind(**arguments, gather=True)(own, labels[share]).backward()
        assert own.grad is not None and whole.grad is not None
        expected = whole.grad[share].to(torch.bfloat16)
        eps = torch.finfo(torch.bfloat16).eps
        torch.testing.assert_close(own.grad / n_ranks, expected, rtol=eps, atol=1e-6)


def uneven_batches_are_refused_everywhere(rank: int) -> None:
    images, labels = inputs()
    n = 3 + rank
    with pytest.raises(
        ValueError, match="`embeddings` have the shapes .* leave out an incomplete"
    ):
        SplitInfoNCELoss(gather=True)(images[:n], labels[:n])


def second_derivatives_are_refused() -> None:
    images, labels = inputs()
    leaf = images.requires_grad_()
    loss = SplitInfoNCELoss(gather=True)(leaf, labels)
    with pytest.raises(RuntimeError, match="Second derivatives cannot be had with `gather=True`"):
        torch.autograd.grad(loss, leaf, create_graph=True)


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_ranks_together_equal_one_process(n_ranks: int, tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path / "store"), str(n_ranks)]
    ranks = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(n_ranks)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=300)
        assert rank.returncode == 0, errors


def test_without_other_ranks_gathering_changes_nothing() -> None:
    images, labels = inputs()
    assert SplitInfoNCELoss(gather=True)(images, labels) == SplitInfoNCELoss()(images, labels)


@pytest.mark.parametrize("given", ["indices_tuple", "ref_emb"])
def test_chosen_pairs_and_references_cannot_be_gathered(given: str) -> None:
    images, labels = inputs()
    arguments: dict[str, Any] = {
        "indices_tuple": {"indices_tuple": (labels, labels, labels)},
        "ref_emb": {"ref_emb": images, "ref_labels": labels},
    }[given]
    with pytest.raises(
        ValueError, match=f"`{given}` is given, with `gather=True` it must be left"
    ):
        SplitInfoNCELoss(gather=True)(images, labels, **arguments)


if __name__ == "__main__":
    run_rank(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
