from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import count
import math
import time
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.losses import SplitTerms
from cbal_optuna.training import DivergedError
from cbal_optuna.training import LEARNING_RATE_RULES
from cbal_optuna.training import NotANumberError
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions
from cbal_optuna.training import TrainingRecord


LABELS = np.repeat(np.arange(6), 8)
INPUTS = torch.randn(48, 5, generator=torch.Generator().manual_seed(0))


class Scripted(SplitLoss):
    """A loss of given values, one for each step, whose gradient is zero."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self._values = iter(values)

    def terms(self, embeddings: Tensor, labels: Tensor, *args: Any) -> SplitTerms:
        zero = (0 * embeddings).sum()
        return SplitTerms(zero + next(self._values, 0.0), zero)

    def _entropy(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        raise NotImplementedError


def inputs(items: np.ndarray) -> Tensor:
    return INPUTS[torch.from_numpy(items)]


def trained(
    loss: SplitLoss | None = None,
    *,
    inputs: Callable[[np.ndarray], Tensor] = inputs,
    model: nn.Module | None = None,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    evaluate: Callable[[int], Any] = lambda number: number,
    **options: Any,
) -> tuple[TrainingRecord, Any]:
    training = TrainingOptions(**{"samples": 160, **options})
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    n_steps = training.n_steps(batch_size)
    numbers = count(1)
    return train(
        nn.Linear(5, 3) if model is None else model,
        SplitInfoNCELoss() if loss is None else loss,
        (rng.permutation(48)[:batch_size] for _ in range(n_steps)),
        inputs,
        LABELS,
        options=training,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        evaluate=lambda: (0.0, evaluate(next(numbers))),
    )


@pytest.fixture
def learning_rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Filled with the learning rate of each step."""
    rates: list[float] = []

    class Recording(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    return rates


def test_training_lowers_the_loss() -> None:
    model = nn.Linear(5, 3)
    first, _ = trained(model=model, samples=16)
    last, _ = trained(model=model, samples=16_000, learning_rate=1e-2)
    assert last.positive + last.entropy < first.positive + first.entropy - 0.1


def test_a_training_is_adamw_on_the_loss_of_each_batch() -> None:
    model, expected = nn.Linear(5, 3), nn.Linear(5, 3)
    expected.load_state_dict(model.state_dict())
    loss = SplitMarginLoss(balance=30.0, margin=0.1)
    trained(loss, model=model, samples=64, warm_up=1.0, learning_rate=0.1, weight_decay=0.2)

    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(expected.parameters(), weight_decay=0.2)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 * (step + 1) / 4
        items = torch.from_numpy(rng.permutation(48)[:16])
        optimizer.zero_grad()
        loss(expected(INPUTS[items]), torch.from_numpy(LABELS)[items]).backward()
        optimizer.step()
    torch.testing.assert_close(model.weight, expected.weight)


@pytest.mark.parametrize(("samples", "batch_size", "n_steps"), [(160, 16, 10), (175, 16, 10)])
def test_the_budget_is_counted_in_samples(
    learning_rates: list[float], samples: int, batch_size: int, n_steps: int
) -> None:
    record, _ = trained(samples=samples, batch_size=batch_size)
    assert len(learning_rates) == n_steps
    assert record.samples_per_second * record.seconds == pytest.approx(n_steps * batch_size)


@given(samples=st.integers(1, 10**7), batch_size=st.integers(1, 4096))
def test_a_training_has_a_step_at_least_and_never_exceeds_its_budget_otherwise(
    samples: int, batch_size: int
) -> None:
    n_steps = TrainingOptions(samples=samples).n_steps(batch_size)
    assert n_steps == 1 or n_steps * batch_size <= samples < (n_steps + 1) * batch_size


@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 10, 100])
def test_the_learning_rate_rises_to_its_peak_and_falls(
    learning_rates: list[float], n_steps: int, warm_up: float
) -> None:
    trained(samples=16 * n_steps, warm_up=warm_up, learning_rate=0.5)
    n_warm = max(1, round(warm_up * n_steps))
    assert len(learning_rates) == n_steps
    assert all(0 < rate <= 0.5 for rate in learning_rates)
    assert learning_rates[n_warm - 1] == 0.5
    assert learning_rates[:n_warm] == sorted(learning_rates[:n_warm])
    assert learning_rates[n_warm:] == sorted(learning_rates[n_warm:], reverse=True)


def test_the_fall_is_a_cosine_that_ends_near_zero(learning_rates: list[float]) -> None:
    trained(samples=16 * 110, warm_up=10 / 110, learning_rate=2.0)
    cosine = [1 + math.cos(math.pi * k / 100) for k in range(100)]
    assert learning_rates[10:] == pytest.approx(cosine)
    assert learning_rates[-1] < 1e-3


@pytest.mark.parametrize(
    ("rule", "batch_size", "factor"),
    [
        ("none", 32, 1.0),
        ("sqrt", 32, 0.5),
        ("linear", 32, 0.25),
        ("sqrt", 128, 1.0),
        ("linear", 128, 1.0),
        ("linear", 512, 4.0),
    ],
)
def test_the_learning_rate_follows_the_batch_size_by_its_rule(
    learning_rates: list[float], rule: str, batch_size: int, factor: float
) -> None:
    trained(
        Scripted([]),
        samples=batch_size,
        batch_size=batch_size,
        learning_rate_rule=rule,
        learning_rate=0.1,
    )
    assert learning_rates == [pytest.approx(0.1 * factor)]


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    model = nn.Linear(5, 3, bias=False)
    before = model.weight.detach().clone()
    trained(Scripted([]), model=model, samples=16, learning_rate=0.1, weight_decay=0.5)
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(
    ("n_steps", "n_evaluations", "expected"),
    [
        (10, 1, [10]),
        (10, 2, [5, 10]),
        (10, 4, [3, 5, 8, 10]),
        (3, 3, [1, 2, 3]),
        (3, 4, [1, 2, 3]),
        (1, 4, [1]),
    ],
)
def test_evaluations_are_at_equal_distances_and_fewer_in_a_short_training(
    learning_rates: list[float], n_steps: int, n_evaluations: int, expected: list[int]
) -> None:
    evaluated: list[tuple[int, int]] = []

    def evaluate(number: int) -> str:
        evaluated.append((number, len(learning_rates)))
        return f"evaluation {number}"

    _, last = trained(samples=16 * n_steps, n_evaluations=n_evaluations, evaluate=evaluate)
    assert evaluated == list(enumerate(expected, 1))
    assert last == f"evaluation {len(expected)}"


@settings(deadline=None)
@given(n_steps=st.integers(1, 60), n_evaluations=st.integers(1, 20))
def test_there_are_as_many_evaluations_as_fit(n_steps: int, n_evaluations: int) -> None:
    numbers: list[int] = []
    model = nn.Linear(5, 1)
    trained(
        Scripted([]),
        model=model,
        samples=n_steps,
        batch_size=1,
        n_evaluations=n_evaluations,
        evaluate=numbers.append,
    )
    assert numbers == list(range(1, min(n_steps, n_evaluations) + 1))


def test_an_evaluation_can_end_the_training(learning_rates: list[float]) -> None:
    def evaluate(number: int) -> None:
        if number == 2:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        trained(n_evaluations=5, evaluate=evaluate)
    assert len(learning_rates) == 4


def test_each_phase_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only these stand-ins advance, by another power of ten in each phase."""
    now = 0.0

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*args: Any, **kwargs: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*args, **kwargs)

        return taken

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(nn.Linear, "forward", taking(1e1, nn.Linear.forward))
    monkeypatch.setattr(SplitInfoNCELoss, "terms", taking(1e2, SplitInfoNCELoss.terms))
    monkeypatch.setattr(Tensor, "backward", taking(1e3, Tensor.backward))
    monkeypatch.setattr(torch.optim.AdamW, "step", taking(1e4, torch.optim.AdamW.step))
    record, _ = trained(
        inputs=taking(1e0, inputs), evaluate=taking(1e5, lambda number: number), n_evaluations=2
    )
    assert record.phases == {
        "data": 10 * 1e0,
        "forward": 10 * 1e1,
        "loss": 10 * 1e2,
        "backward": 10 * 1e3,
        "step": 10 * 1e4,
        "evaluation": 2 * 1e5,
        "checkpoint": 0.0,
    }
    assert record.seconds == 111_110
    assert record.samples_per_second == 160 / 111_110


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("step", "reported"), [(1, 3), (3, 3), (4, 5), (10, 10)])
def test_one_bad_loss_ends_the_training_at_the_next_evaluation(
    value: float, step: int, reported: int
) -> None:
    evaluated: list[int] = []
    losses = [0.5] * (step - 1) + [value]
    kind = NotANumberError if math.isnan(value) else DivergedError
    with pytest.raises(DivergedError, match=f"was {value} by step {reported} of 10") as caught:
        trained(Scripted(losses), n_evaluations=4, evaluate=evaluated.append)
    assert caught.type is kind
    assert evaluated == list(range(1, [3, 5, 8, 10].index(reported) + 1))


def test_a_huge_learning_rate_diverges() -> None:
    with pytest.raises(DivergedError):
        trained(learning_rate=1e38)


class Remembering(nn.Module):
    """A linear model that keeps its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        self.last: Tensor = self.linear(inputs)
        return self.last


@pytest.mark.parametrize(
    "loss",
    [
        SplitInfoNCELoss(balance=1.0, temperature=0.1),
        SplitInfoNCELoss(balance=7.0, temperature=0.5),
        SplitMarginLoss(balance=30.0, margin=0.1),
    ],
    ids=repr,
)
def test_the_gradient_ratio_is_that_of_the_last_batch(loss: SplitLoss) -> None:
    model = Remembering()
    items: list[np.ndarray] = []
    rng = np.random.default_rng(0)
    options = TrainingOptions(samples=64)

    def inputs(batch: np.ndarray) -> Tensor:
        items.append(batch)
        return INPUTS[torch.from_numpy(batch)]

    record, _ = train(
        model,
        loss,
        (rng.permutation(48)[:16] for _ in range(4)),
        inputs,
        LABELS,
        options=options,
        batch_size=16,
        learning_rate=1e-3,
        weight_decay=0.0,
        evaluate=lambda: (0.0, None),
    )
    embeddings = model.last.detach().requires_grad_()
    labels = torch.from_numpy(LABELS[items[-1]])
    terms = loss.terms(embeddings, labels)
    assert record.positive == pytest.approx(terms.positive.item())
    assert record.entropy == pytest.approx(terms.entropy.item())
    weighted = torch.autograd.grad(loss.balance * terms.entropy, embeddings, retain_graph=True)[0]
    positive = torch.autograd.grad(terms.positive, embeddings)[0]
    expected = (weighted.norm() / positive.norm()).item()
    assert 0.01 < expected < 100
    assert record.gradient_ratio == pytest.approx(expected, rel=1e-5)


def test_without_positives_the_gradient_ratio_is_infinite() -> None:
    record, _ = trained(batch_size=1, samples=1)
    assert record.gradient_ratio == math.inf


def test_on_a_cpu_the_peak_memory_is_that_of_the_process() -> None:
    peak = trained()[0].peak_memory_mb
    # torch alone takes more than 50 MiB; no test takes a tenth of a TiB.
    assert peak is not None and 50 < peak < 100_000


def test_the_model_is_in_training_mode_after_an_evaluation_that_restores_it() -> None:
    modes: list[bool] = []
    model = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5)).eval()
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    trained(model=model)
    assert modes == [True] * 10


def out_of_memory(gradient: Tensor) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


class SmallCard(nn.Module):
    """A model on a card that holds the activations of so many images and no more.

    Args:
        limit: How many.
        fails: Whether a ``"forward"`` or a ``"backward"`` pass finds that out; by an
            ``"allocation"`` it is the CPU that does.
        layer: In the middle of the model.
    """

    def __init__(self, limit: float, fails: str, layer: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(5, 8), layer, nn.GELU(), nn.Linear(8, 3))
        self.limit, self.fails = limit, fails
        self.passes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes.append(len(inputs))
        embeddings: Tensor = self.layers(inputs)
        if len(inputs) > self.limit:
            if self.fails == "forward":
                out_of_memory(embeddings)
            if self.fails == "allocation":
                torch.empty(1 << 60, dtype=torch.uint8)
            if embeddings.requires_grad:
                embeddings.register_hook(out_of_memory)
        return embeddings


def on_small_card(model: SmallCard, **options: Any) -> dict[str, Any]:
    """Four steps with a batch of 1,024: the trained model, and what was drawn for its inputs."""
    rng, drawn, dtype = np.random.default_rng(0), [], next(model.parameters()).dtype

    def inputs(items: np.ndarray) -> Tensor:
        drawn.append(torch.rand(()).item())
        return INPUTS[torch.from_numpy(items)].to(dtype) * drawn[-1]

    torch.manual_seed(0)
    record, _ = train(
        model,
        SplitInfoNCELoss(),
        (rng.permutation(np.arange(1024) % 48) for _ in range(4)),
        inputs,
        LABELS,
        options=TrainingOptions(samples=4096, **options),
        batch_size=1024,
        learning_rate=1e-2,
        weight_decay=0.1,
        evaluate=lambda: (0.0, None),
    )
    state = {k: v.double() for k, v in model.state_dict().items()}
    return {**state, "drawn": torch.tensor(drawn), "micro_batch": torch.tensor(record.micro_batch)}


@pytest.mark.parametrize("fails", ["forward", "backward", "allocation"])
@pytest.mark.parametrize(
    ("layer", "options"),
    [(nn.LayerNorm(8), {}), (nn.BatchNorm1d(8), {"batch_norm": "frozen"})],
    ids=["no BatchNorm", "frozen BatchNorm"],
)
def test_a_batch_of_1024_trains_alike_where_64_fit(
    layer: nn.Module, options: dict[str, Any], fails: str
) -> None:
    large = SmallCard(math.inf, fails, deepcopy(layer)).double()
    small = SmallCard(64, fails, deepcopy(layer)).double()
    expected = on_small_card(large, **options)
    with pytest.warns(UserWarning, match="a batch of 1024 .*: 64 images at a time"):
        found = on_small_card(small, **options)
    assert expected.pop("micro_batch") == 1024
    assert found.pop("micro_batch") == 64
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert large.passes == [1024] * 4
    # Sixteen chunks a step, fifteen of them twice.
    assert small.passes[-4 * 31 :] == [64] * (4 * 31)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.Dropout(0.5)], ids=repr)
@pytest.mark.parametrize("fails", ["forward", "backward"])
def test_a_step_out_of_memory_leaves_no_trace(layer: nn.Module, fails: str) -> None:
    """Running statistics and masks are those of a training in micro-batches from the start."""
    known = SmallCard(64, fails, deepcopy(layer))
    found = SmallCard(64, fails, deepcopy(layer))
    expected = on_small_card(known, micro_batch=64)
    with pytest.warns(UserWarning, match="64 images at a time"):
        torch.testing.assert_close(on_small_card(found), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "argument",
    [
        {"samples": 0},
        {"images_per_class": 0},
        {"n_evaluations": 0},
        {"learning_rate_rule": "cubic"},
        {"warm_up": -0.1},
        {"warm_up": 1.5},
        {"warm_up": math.nan},
        {"warm_up": "a"},
        {"samples": "a"},
        {"samples": 1e5},
        {"n_evaluations": None},
        {"micro_batch": 0},
        {"micro_batch": "half"},
        {"batch_norm": "whole"},
    ],
)
def test_options_out_of_range_are_named(argument: dict[str, Any]) -> None:
    (name,) = argument
    with pytest.raises(ValueError, match=f"`{name}` is"):
        TrainingOptions(**{"samples": 100, **argument})


def test_there_is_a_rule_for_each_word_of_the_issue() -> None:
    assert set(LEARNING_RATE_RULES) == {"none", "sqrt", "linear"}


def test_the_curve_ends_with_the_terms_of_the_last_batch() -> None:
    record, _ = trained(SplitMarginLoss(balance=30.0, margin=0.1))
    assert len(record.curve["positive"]) == len(record.curve["entropy"]) == 10
    assert record.curve["positive"][-1] == pytest.approx(record.positive)
    assert record.curve["entropy"][-1] == pytest.approx(record.entropy)


def test_the_curve_is_that_of_the_losses() -> None:
    record, _ = trained(Scripted([float(i) for i in range(100)]), samples=16 * 100)
    assert record.curve["positive"] == [2 * i + 0.5 for i in range(50)]
    assert record.curve["entropy"] == [0.0] * 50
