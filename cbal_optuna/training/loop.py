"""The training loop: a number of samples, AdamW, a warm-up and a cosine."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
import math
import sys
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitTerms
from cbal_optuna.training.allocator import keep_freed_memory
from cbal_optuna.training.checkpoint import Checkpoint
from cbal_optuna.training.compiling import compiled
from cbal_optuna.training.device_rows import on_device
from cbal_optuna.training.gradient_caching import ChunkedForward
from cbal_optuna.training.micro_batches import BeforeStep
from cbal_optuna.training.micro_batches import MicroBatches
from cbal_optuna.training.monitor import LossMonitor
from cbal_optuna.training.one_process import OneProcess
from cbal_optuna.training.options import LEARNING_RATE_RULES
from cbal_optuna.training.options import REFERENCE_BATCH_SIZE
from cbal_optuna.training.options import TrainingOptions
from cbal_optuna.training.phases import Phase
from cbal_optuna.training.phases import phase_clock
from cbal_optuna.training.phases import PhaseClock
from cbal_optuna.training.phases import STEP_PHASES
from cbal_optuna.training.state import TrainingState


if sys.platform != "win32":
    import resource

Evaluation = TypeVar("Evaluation")


class DivergedError(RuntimeError):
    """The model grew out of all bounds: the loss became infinite, or its embeddings did."""


class NotANumberError(DivergedError):
    """The loss of finite embeddings was NaN."""


@dataclass(frozen=True)
class TrainingRecord:
    """What one training was like.

    Args:
        positive, entropy:
            The terms of the loss on the last batch.
        gradient_ratio:
            On the last batch, the norm of the gradient of balance x entropy with respect to the
            embeddings, divided by that of the positive term.
        curve:
            Of each term, its means over up to 50 equal parts of the training.
        seconds:
            Wall-clock time of the steps, without evaluations and checkpoints.
        phases:
            Seconds of each phase: see :class:`~cbal_optuna.training.phases.PhaseClock`.
        samples_per_second:
            Of the steps.
        peak_memory_mb:
            In MiB: of the CUDA device in this training; on a CPU, of the process so far.
            :obj:`None` where the system does not tell.
        micro_batch:
            Images that went through the model at once, in the end.
    """

    positive: float
    entropy: float
    gradient_ratio: float
    curve: Mapping[str, Sequence[float]]
    seconds: float
    phases: Mapping[Phase, float]
    samples_per_second: float
    peak_memory_mb: float | None
    micro_batch: int


def train(
    model: nn.Module,
    loss: SplitLoss,
    batches: Iterable[np.ndarray],
    inputs: Callable[[np.ndarray], Tensor],
    labels: np.ndarray,
    *,
    options: TrainingOptions,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    evaluate: Callable[[], tuple[float, Evaluation]],
    on_evaluation: Callable[[int, float], None] = lambda number, value: None,
    micro_batches: MicroBatches | None = None,
    checkpoint: Checkpoint | None = None,
    ranks: OneProcess | None = None,
) -> tuple[TrainingRecord, Evaluation]:
    """Train a model in place.

    Args:
        model:
            Takes ``inputs(items)``, gives embeddings (n, d).
        loss:
            Of embeddings and labels.
        batches:
            Indices of training images, int64 of shape (batch_size,), as often as the budget
            allows; an image of which there are several views stands there several times.
        inputs:
            From such indices to what the model takes.
        labels:
            The class of every image, int64 of shape (n_images,).
        options:
            How to train.
        batch_size, learning_rate, weight_decay:
            Of this trial; the learning rate is that of batch size 128 if the rule is not
            ``"none"``.
        evaluate:
            Gives the value of the model, and what the caller wants to know beside it.
        on_evaluation:
            Called with the number (1, 2, ...) and the value of each evaluation, at first those
            before an interruption; what it raises ends the training.
        micro_batches:
            Those of earlier trainings with the same setting, which know what fits into memory; by
            default new ones.
        checkpoint:
            Where the training goes on from, if it was cut off, and where its state is written. The
            same arguments are to give the same batches again; then, on a CPU, the result is that
            of a training in one go, bit for bit.
        ranks:
            The processes that do this training together, each with its share of every batch, whose
            loss gathers their embeddings; the leader's checkpoint counts. By default this one.

    Returns:
        What the training was like, and what the last evaluation gave beside the value.

    Raises:
        DivergedError: The loss became infinite or NaN.
    """
    device = next(model.parameters()).device
    n_steps = options.n_steps(batch_size)
    scale = LEARNING_RATE_RULES[options.learning_rate_rule](batch_size / REFERENCE_BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=weight_decay, fused=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        keep_freed_memory()
    evaluation_steps = _evaluation_steps(n_steps, options.n_evaluations)
    targets = torch.from_numpy(labels).to(device)
    state = TrainingState(
        model,
        loss,
        optimizer,
        micro_batches or MicroBatches(options.micro_batch),
        phase_clock(device),
        LossMonitor(n_steps, device),
        device,
    )
    if checkpoint is not None:
        state.resume(checkpoint)
    ranks = ranks or OneProcess()
    state.share(ranks)
    encoder = compiled(model) if options.compile else model
    embed = ranks.parallel(ChunkedForward(encoder, options.batch_norm), device)
    for number, value in enumerate(state.values, 1):
        on_evaluation(number, value)
    model.train()
    before, clock = BeforeStep(model, device), state.clock
    clock.enter("data")
    for items in state.steps(batches, checkpoint):
        batch, batch_labels = inputs(items), targets.index_select(0, on_device(items, device))
        gradients = partial(_gradients, embed, loss, batch, batch_labels, clock)
        clock.enter("forward")
        embeddings, terms = state.micro_batches.run(before, len(batch), gradients)
        clock.enter("step")
        factor = _learning_rate_factor(state.step, n_steps, options.warm_up)
        optimizer.param_groups[0]["lr"] = learning_rate * scale * factor
        optimizer.step()
        state.monitor.add(state.step, terms, embeddings)
        state.step += 1
        if state.step in evaluation_steps:
            # But for checkpoints, the only synchronisations with the device.
            _check(state, n_steps)
            clock.enter("evaluation")
            value, evaluation = evaluate()
            state.values.append(float(value))
            on_evaluation(len(state.values), value)
        clock.enter("data")
    phases = clock.seconds()
    seconds = sum(phases[phase] for phase in STEP_PHASES)
    record = TrainingRecord(
        positive=terms.positive.item(),
        entropy=terms.entropy.item(),
        gradient_ratio=_gradient_ratio(loss, embeddings, batch_labels),
        curve=state.monitor.curve(),
        seconds=seconds,
        phases=phases,
        samples_per_second=n_steps * batch_size / seconds,
        peak_memory_mb=_peak_memory_mb(device),
        micro_batch=state.micro_batches.size(len(batch)),
    )
    return record, evaluation


def _check(state: TrainingState, n_steps: int) -> None:
    """Raises DivergedError."""
    health = state.monitor.health()
    if math.isfinite(health.value):
        return
    where = f"the loss was {health.value} by step {state.step} of {n_steps}"
    if math.isnan(health.value) and health.embeddings_finite:
        raise NotANumberError(f"{where}, of finite embeddings")
    raise DivergedError(where)


def _gradients(
    embed: nn.Module,
    loss: SplitLoss,
    batch: Tensor,
    labels: Tensor,
    clock: PhaseClock,
    micro_batch: int,
) -> tuple[Tensor, SplitTerms]:
    """Leaves the gradient of the loss with the parameters; gives embeddings and terms."""
    embed.zero_grad(set_to_none=True)
    device = batch.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        embeddings = embed(batch, micro_batch)
    clock.enter("loss")
    terms = loss.terms(embeddings, labels)
    value = loss.balanced(terms)
    clock.enter("backward")
    value.backward()
    return embeddings.detach(), SplitTerms(*(t.detach() for t in terms))


def _peak_memory_mb(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _learning_rate_factor(step: int, n_steps: int, warm_up: float) -> float:
    n_warm = max(1, round(warm_up * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))


def _evaluation_steps(n_steps: int, n_evaluations: int) -> set[int]:
    """After which steps to evaluate; fewer than asked for in a short training."""
    return {math.ceil(n_steps * k / n_evaluations) for k in range(1, n_evaluations + 1)}


def _gradient_ratio(loss: SplitLoss, embeddings: Tensor, labels: Tensor) -> float:
    embeddings = embeddings.detach().float().requires_grad_()
    terms = loss.terms(embeddings, labels)
    (positive,) = torch.autograd.grad(terms.positive, embeddings, retain_graph=True)
    (entropy,) = torch.autograd.grad(terms.entropy, embeddings)
    norm = positive.norm().item()
    return float(loss.balance) * entropy.norm().item() / norm if norm else math.inf
