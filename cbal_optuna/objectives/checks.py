"""Checks of the arguments of objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cbal_optuna.data import LabelledImages
from cbal_optuna.number_kinds import is_whole
from cbal_optuna.objectives.search_space import SearchSpace
from cbal_optuna.training import FROZEN
from cbal_optuna.training import smallest_chunk
from cbal_optuna.training import TrainingOptions


def check_whole(least: int, **arguments: int) -> None:
    """That they are whole numbers of at least so much; raises ValueError."""
    for name, value in arguments.items():
        if not is_whole(value) or value < least:
            raise ValueError(
                f"`{name}` is {value!r}; it should be a whole number of at least {least}."
            )


def check_space(space: SearchSpace, loss: str | None) -> SearchSpace:
    """The space, if it is of the loss, if one is named, and has something to search; raises
    ValueError."""
    if loss not in (None, space.loss):
        raise ValueError(f"`space` is of the {space.loss} loss; `loss` is {loss!r}.")
    if not space.distributions:
        raise ValueError(
            f"`space` has nothing but fixed values of {', '.join(space.completed({}))}; one of "
            "them or more should have a range, or a list to choose from."
        )
    return space


def check_budget(samples: int, batch_sizes: Sequence[int]) -> None:
    """That it has room for any batch; raises ValueError."""
    if max(batch_sizes) > samples:
        raise ValueError(
            f"`samples` is {samples}; it should be at least the largest batch size, "
            f"{max(batch_sizes)}."
        )


def check_compiled(training: TrainingOptions, *, head_only: bool) -> None:
    """Raises ValueError."""
    if training.compile and head_only:
        raise ValueError(
            "`compile` is True; with `head_only` it should be False, as a linear head has nothing "
            "to gain."
        )


def check_statistics(training: TrainingOptions, batch_sizes: Sequence[int]) -> None:
    """That BatchNorm, unless it is frozen, takes them of more than one image; raises
    ValueError."""
    size = training.micro_batch
    if training.batch_norm == FROZEN or not isinstance(size, int):
        return
    for n_images in batch_sizes:
        if smallest_chunk(n_images, size) == 1:
            raise ValueError(
                f"`micro_batch` is {size}, which leaves BatchNorm a single image of a batch of "
                f"{n_images}; it should be larger, or `batch_norm` {FROZEN!r}."
            )


def check_retrievable(dataset: LabelledImages, items: np.ndarray) -> None:
    """That among these images a query can have a match, and clusters can differ from classes;
    raises ValueError."""
    labels, is_query = dataset.labels[items], dataset.is_query[items]
    if len(items) == len(np.unique(labels)):
        raise ValueError(
            f"`dataset` {dataset.name} has one image in each of the classes to evaluate on; some "
            "should have two or more."
        )
    if is_query.any() and not np.isin(labels[is_query], labels[~is_query]).any():
        raise ValueError(
            f"`dataset` {dataset.name} has no query with an image of its class in the gallery; "
            "some should have one or more."
        )


def device_of(name: str) -> torch.device:
    """``"auto"`` is CUDA where it can be used; raises ValueError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if not torch.amp.is_autocast_available(device.type):
            raise RuntimeError("no training on it")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`device` is {name!r}, which cannot be used here: {reason}") from error
    return device
