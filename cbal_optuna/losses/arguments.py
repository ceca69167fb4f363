"""Checks of what losses are given."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import math
from numbers import Real

import torch
from torch import Tensor

from cbal_optuna.losses.pairing import Pairing


def number_where(
    condition: Callable[[float], bool], name: str, value: object, allowed: str
) -> float | Tensor:
    """The argument as a float, or as the tensor it is.

    Raises:
        ValueError: If it is not a finite number that meets the condition, or a 0-d floating-point
            tensor of one. The values of tensors on other devices than the CPU would have to be
            waited for, and are not looked at.
    """
    number = math.nan
    if isinstance(value, Real):
        value = number = float(value)
    elif isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point():
        if value.device.type != "cpu":
            return value
        number = float(value.detach())
    if not math.isfinite(number) or not condition(number):
        raise ValueError(f"`{name}` is {value!r}, it must be a finite number {allowed}.")
    return value  # type: ignore[return-value]


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """The argument, or ValueError if it is none of the allowed words."""
    if value not in allowed:
        choices = " or ".join(repr(word) for word in allowed)
        raise ValueError(f"`{name}` is {value!r}, it must be {choices}.")
    return value


def checked_pairing(
    embeddings: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    self_start: int | None,
) -> Pairing:
    """From the arguments of :meth:`SplitLoss.terms`, and with its errors."""
    check_batch("embeddings", embeddings, "labels", labels)
    if ref_emb is None and ref_labels is None:
        if self_start is not None:
            raise ValueError(
                f"`self_start` is {self_start!r}, without `ref_emb` it must be left out."
            )
        return Pairing(labels, None, 0)
    if ref_emb is None or ref_labels is None:
        missing = "ref_emb" if ref_emb is None else "ref_labels"
        given = "ref_labels" if ref_emb is None else "ref_emb"
        raise ValueError(f"`{missing}` is None, it must be given together with `{given}`.")
    check_batch("ref_emb", ref_emb, "ref_labels", ref_labels)
    if ref_emb.shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"`ref_emb` has {ref_emb.shape[1]} dimensions, it must have those of `embeddings`: "
            f"{embeddings.shape[1]}."
        )
    if self_start is None:
        self_start = 0 if ref_labels is labels else None
    elif not 0 <= self_start <= len(ref_emb) - len(embeddings):
        raise ValueError(
            f"`self_start` is {self_start!r}, with {len(embeddings)} anchors and {len(ref_emb)} "
            f"references it must be between 0 and {len(ref_emb) - len(embeddings)}."
        )
    return Pairing(labels, ref_labels, self_start)


def check_batch(emb_name: str, embeddings: Tensor, labels_name: str, labels: Tensor) -> None:
    """Raises ValueError if they are not embeddings and their labels."""
    for name, given in ((emb_name, embeddings), (labels_name, labels)):
        if not isinstance(given, Tensor):
            raise ValueError(f"`{name}` is of type {type(given).__name__}, it must be a tensor.")
    if embeddings.ndim != 2 or len(embeddings) == 0 or not embeddings.is_floating_point():
        raise ValueError(
            f"`{emb_name}` has shape {tuple(embeddings.shape)} and dtype {embeddings.dtype}, it "
            "must have two axes, at least one row, and a floating-point dtype."
        )
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"`{labels_name}` has shape {tuple(labels.shape)}, it must have one axis with a label "
            f"for each row of `{emb_name}`: {tuple(embeddings.shape[:1])}."
        )
    if labels.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise ValueError(f"`{labels_name}` has dtype {labels.dtype}, it must hold integers.")
