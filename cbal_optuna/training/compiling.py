"""Models trained as ``torch.compile`` makes them."""

from __future__ import annotations

import torch
from torch import nn


def compiled(model: nn.Module) -> nn.Module:
    """A model that compiles itself at its first batch, and shares parameters, buffers and modes
    with this one, which stays as it is.

    All that this process has compiled before is forgotten, but for torch's cache on disk. Else
    torch would take code that it has made for several batch sizes, which rounds otherwise, and
    would compile no more after 8 versions of a network.
    """
    torch.compiler.reset()
    compiled_model = torch.compile(model)
    assert isinstance(compiled_model, nn.Module)
    return compiled_model


def check_compiler(device: torch.device) -> None:
    """See that torch can compile for a device, with a function that takes it seconds.

    Raises:
        ValueError: It cannot, as where there is no C++ compiler.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(1, device=device))
    except (RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"`compile` is True, but torch cannot compile for {device.type} here: {reason}"
        ) from error
