"""Whatever a file of weights holds: a study, or one sentence and no study; never code that is run.

The trials are left out.
"""

from __future__ import annotations

from collections.abc import Callable
import io
import os
from pathlib import Path
import pickle
from typing import Any
import zipfile

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
from safetensors.torch import save
import timm
import torch
from torch import Tensor

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


MANY = settings.get_profile("any input")
MODEL = "test_resnet"
WEIGHTS = timm.create_model(MODEL, num_classes=0).state_dict()
KEYS = list(WEIGHTS)
PROOF = "code was run"


class Code:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (PROOF,)


def other(tensor: Tensor, kind: str) -> Any:
    """Something else in the place of a tensor."""
    made: dict[str, Callable[[], Any]] = {
        "code": Code,
        "code in a list": lambda: [{"x": Code()}],
        "meta": lambda: torch.empty_like(tensor, device="meta"),
        "sparse": lambda: torch.zeros(tensor.shape).to_sparse(),
        "quantised": lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
        "complex": lambda: tensor.to(torch.complex64),
        "not a number": lambda: torch.full(tensor.shape, float("nan")),
        "infinite": lambda: torch.full(tensor.shape, float("inf")),
        "half": lambda: tensor.half(),
        "eighth": lambda: tensor.float().to(torch.float8_e4m3fn),
        "whole": lambda: tensor.long(),
        "transposed": lambda: tensor.T if tensor.ndim == 2 else tensor[None],
        "scalar": lambda: torch.zeros(()),
        "empty": lambda: torch.zeros(0, 3),
        "one number": lambda: torch.zeros(()).expand(tensor.shape),
        "vast": lambda: torch.zeros(()).expand(2**20, 2**20),
        "parameter": lambda: torch.nn.Parameter(tensor.float()),
        "array": lambda: np.zeros(3),
        "nothing": lambda: None,
        "text": lambda: "weights",
        "dictionary": lambda: {"weight": tensor},
    }
    return made[kind]()


KINDS = st.sampled_from(
    [*("code", "code in a list", "meta", "sparse", "quantised", "complex", "not a number")]
    + [*("infinite", "half", "eighth", "whole", "transposed", "scalar", "empty", "one number")]
    + [*("vast", "parameter", "array", "nothing", "text", "dictionary")]
)
NAMES = st.sampled_from([*KEYS[:3], KEYS[-1], "fc.weight", "", "state_dict", "a\nb", "\x1b[2J"])
CHANGES = st.dictionaries(
    NAMES | st.text(max_size=5) | st.integers(0, 2), st.none() | KINDS, max_size=3
)


@st.composite
def checkpoints(draw: st.DrawFn) -> bytes:
    """The weights with some exchanged, in one of the ways in which weights are written."""
    weights: dict[Any, Any] = dict(WEIGHTS)
    for name, kind in draw(CHANGES).items():
        if kind is None:
            weights.pop(name, None)
        else:
            weights[name] = other(WEIGHTS.get(name, WEIGHTS[KEYS[0]]), kind)
    form = draw(st.sampled_from(["safetensors", "torch", "torch", "old", "pickle", "nested"]))
    file = io.BytesIO()
    if form == "pickle":
        return pickle.dumps({**weights, "x": Code()})
    if form == "safetensors":
        try:
            return save({str(k): v.contiguous() for k, v in weights.items()})
        except (AttributeError, KeyError, NotImplementedError, RuntimeError, ValueError):
            form = "torch"
    nested = {"state_dict": weights, "epoch": 3} if form == "nested" else weights
    try:
        torch.save(nested, file, _use_new_zipfile_serialization=form != "old")
    except (NotImplementedError, RuntimeError, AttributeError):
        return b""
    return file.getvalue()


def compressed(content: bytes) -> bytes:
    """The same archive with its members compressed."""
    file = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    except zipfile.BadZipFile:
        return content
    return file.getvalue()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = draw(checkpoints())
    start = draw(st.integers(0, len(content)))
    if draw(st.booleans()):
        return content[:start]
    end = start + draw(st.integers(0, 20))
    return content[:start] + draw(st.binary(max_size=20)) + content[end:]


CONTENTS = (
    checkpoints()
    | damaged()
    | checkpoints().map(compressed)
    | st.binary(max_size=60)
    | st.builds(
        lambda n, rest: n.to_bytes(8, "little") + rest, st.integers(0, 2**64 - 1), st.binary()
    )
)


@MANY
@given(
    content=CONTENTS,
    suffix=st.sampled_from([".safetensors", ".pt", ".pth", ".bin", ".pkl", "", "\n.pt"]),
)
def test_a_weights_file_is_a_study_or_a_sentence(
    study_or_sentence: Callable[..., str], content: bytes, suffix: str
) -> None:
    name = f"weights{suffix}"
    quick = ["--head-only", "--backbone", MODEL, "--samples", "512", "--weights", name]

    def run() -> None:
        try:
            main(SCRIPTS["digits"], quick)
        finally:
            assert not Path(PROOF).exists()

    sentence = study_or_sentence(run, lambda: Path(name).write_bytes(content))
    assert not sentence or "`weights`" in sentence


def test_weights_that_nothing_is_wrong_with_are_a_study(
    study_or_sentence: Callable[..., str],
) -> None:
    quick = ["--head-only", "--backbone", MODEL, "--samples", "512", "--weights", "weights.pt"]
    assert not study_or_sentence(
        lambda: main(SCRIPTS["digits"], quick), lambda: torch.save(WEIGHTS, "weights.pt")
    )
