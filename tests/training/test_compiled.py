"""Trainings with ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch import nn
from torch import Tensor

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.training import check_compiler
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import Ranks
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions


LABELS = np.repeat(np.arange(6), 8)
IMAGES = torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(0))
N_STEPS = 6

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler"
)
needs_gloo = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch.distributed has no gloo",
)


class Killed(BaseException):
    """Stands for a process that ends where it is."""


def trained(
    *,
    batch_size: int = 16,
    n_steps: int = N_STEPS,
    cut_off: int | None = None,
    compile: bool = True,
    micro_batch: int | str = "whole",
    batch_norm: str = "train",
    **arguments: Any,
) -> dict[str, Any]:
    """The state of a model after some steps, the loss, and the embeddings of two evaluations."""
    torch.manual_seed(0)
    # A bias before BatchNorm has no gradient but rounding, and AdamW makes steps of that.
    convolution, batch_norm_layer = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
    model = nn.Sequential(
        convolution, batch_norm_layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    embeddings, n_batches = [], 0

    def batches() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for _ in range(n_steps):
            yield rng.permutation(48)[:batch_size]

    def inputs(items: np.ndarray) -> Tensor:
        nonlocal n_batches
        n_batches += 1
        if n_batches == cut_off:
            raise Killed
        return IMAGES[torch.from_numpy(items)]

    @torch.no_grad()
    def evaluate() -> tuple[float, None]:
        model.eval()
        embeddings.append(model(IMAGES))
        model.train()
        return 0.0, None

    record, _ = train(
        model,
        SplitInfoNCELoss(),
        batches(),
        inputs,
        LABELS,
        options=TrainingOptions(
            n_steps * batch_size,
            n_evaluations=2,
            compile=compile,
            micro_batch=micro_batch,
            batch_norm=batch_norm,
        ),
        batch_size=batch_size,
        learning_rate=1e-2,
        weight_decay=0.1,
        evaluate=evaluate,
        **arguments,
    )
    terms = torch.tensor([record.positive, record.entropy])
    return {**model.state_dict(), "terms": terms, "embeddings": embeddings[-1]}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Filled with each graph that is compiled, which runs as it is."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return graphs


@needs_compiler
@pytest.mark.parametrize(("batch_norm", "micro_batch"), [("train", "whole"), ("frozen", 8)])
def test_a_compiled_training_is_that_of_the_model_as_it_is(
    batch_norm: str, micro_batch: int | str
) -> None:
    found, expected = (
        trained(compile=compile, batch_norm=batch_norm, micro_batch=micro_batch)
        for compile in (True, False)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_a_compiled_training_that_was_cut_off_ends_as_in_one_go(tmp_path: Path) -> None:
    checkpoint = Checkpoints(tmp_path, 1e-9).of({"training": "this one"})
    with pytest.raises(Killed):
        trained(cut_off=4, checkpoint=checkpoint)
    found = trained(checkpoint=checkpoint)
    # For which torch makes code that would do for both.
    trained(batch_size=24)
    torch.testing.assert_close(found, trained(), rtol=0, atol=0)


def test_the_training_is_compiled_and_the_evaluation_is_not(graphs: list[Any]) -> None:
    trained(compile=False)
    assert len(graphs) == 0
    trained()
    assert len(graphs) == 1


def test_each_training_is_compiled_for_its_batch_size_however_many_there_were(
    graphs: list[Any],
) -> None:
    for n, batch_size in enumerate(range(8, 48, 2), 1):
        trained(batch_size=batch_size, n_steps=2)
        assert len(graphs) == n


def test_micro_batches_of_two_sizes_take_two_graphs(graphs: list[Any]) -> None:
    found = trained(batch_size=17, micro_batch=3, batch_norm="frozen")
    assert len(graphs) == 2
    expected = trained(batch_size=17, micro_batch=3, batch_norm="frozen", compile=False)
    torch.testing.assert_close(found, expected)


@needs_gloo
def test_processes_that_train_together_compile_too(
    graphs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    ranks = Ranks(distributed.HashStore(), 0, 1)
    with ranks.together(torch.device("cpu")):
        found = trained(ranks=ranks, micro_batch=8)
    assert len(graphs) == 1
    torch.testing.assert_close(found, trained(compile=False, micro_batch=8))


@needs_compiler
def test_a_compiler_that_is_there_is_no_error() -> None:
    check_compiler(torch.device("cpu"))
