from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import time
from typing import Any
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitTerms
from cbal_optuna.training import Checkpoint
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import MicroBatches
from cbal_optuna.training import PHASES
from cbal_optuna.training import train
from cbal_optuna.training import TrainingOptions


LABELS = np.repeat(np.arange(6), 8)
INPUTS = torch.randn(48, 5, generator=torch.Generator().manual_seed(0))
N_STEPS = 10
WORK = {"training": "this one", "seed": 0}
ALWAYS, NEVER = 1e-9, 1e9


class Killed(BaseException):
    """Stands for a process that ends where it is."""


class Run:
    """A training of ten steps that draws from torch's random state in all places.

    Args:
        cut_off: Raised in a step, by its number.
        interrupted: The step that a signal comes before.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        *,
        width: int = 8,
        loss: Callable[[], Any] = SplitInfoNCELoss,
        micro_batches: MicroBatches | None = None,
        cut_off: int | None = None,
        interrupted: int | None = None,
    ) -> None:
        self.steps = 0
        self.reported: list[tuple[int, float]] = []
        self._cut_off, self._interrupted = cut_off, interrupted
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(5, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 3)
        )
        self.record, self.last = train(
            self.model,
            loss(),
            self._batches(),
            self._inputs,
            LABELS,
            options=TrainingOptions(samples=16 * N_STEPS, n_evaluations=4),
            batch_size=16,
            learning_rate=1e-2,
            weight_decay=0.1,
            evaluate=self._evaluate,
            on_evaluation=lambda number, value: self.reported.append((number, value)),
            micro_batches=micro_batches,
            checkpoint=checkpoint,
        )

    def _batches(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for step in range(1, N_STEPS + 1):
            if step == self._interrupted:
                raise KeyboardInterrupt
            yield rng.permutation(48)[:16]

    def _inputs(self, items: np.ndarray) -> Tensor:
        self.steps += 1
        if self.steps == self._cut_off:
            raise Killed
        inputs = INPUTS[torch.from_numpy(items)]
        return inputs + 0.1 * torch.randn_like(inputs)

    def _evaluate(self) -> tuple[float, float]:
        value = torch.rand(()).item()
        return value, 2 * value

    @property
    def result(self) -> dict[str, Any]:
        record = {
            name: getattr(self.record, name) for name in ("positive", "entropy", "gradient_ratio")
        }
        return {**self.model.state_dict(), **record, "last": self.last, "values": self.reported}


def assert_equal(run: Run, expected: Run) -> None:
    """Bit for bit."""
    found, wanted = run.result, expected.result
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        same = torch.equal(found[name], value) if isinstance(value, Tensor) else None
        assert same or found[name] == value, name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def checkpoint_in(folder: Path, every: float = ALWAYS) -> Checkpoint:
    return Checkpoints(folder, every).of(WORK)


def cut_off(folder: Path, step: int = 6, **arguments: Any) -> Path:
    """The file that a training leaves that is killed in a step."""
    with pytest.raises(Killed):
        Run(checkpoint_in(folder), cut_off=step, **arguments)
    (file,) = folder.iterdir()
    return file


@pytest.mark.parametrize("step", range(2, N_STEPS + 1))
def test_a_training_that_was_cut_off_ends_as_in_one_go(folder: Path, step: int) -> None:
    cut_off(folder, step)
    resumed = Run(checkpoint_in(folder))
    assert_equal(resumed, Run())
    assert resumed.steps == N_STEPS - step + 1


class Rising(SplitInfoNCELoss):
    """Its entropy term counts for more with each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_batches", torch.zeros(()))

    def balanced(self, terms: SplitTerms) -> Tensor:
        self.n_batches += 1
        return terms.positive + self.n_batches * terms.entropy


def test_the_state_of_the_loss_is_part_of_it(folder: Path) -> None:
    cut_off(folder, loss=Rising)
    assert_equal(Run(checkpoint_in(folder), loss=Rising), Run(loss=Rising))


def test_a_training_may_be_cut_off_again_and_again(folder: Path) -> None:
    for _ in range(N_STEPS - 1):
        with pytest.raises(Killed):
            Run(checkpoint_in(folder), cut_off=2)
    resumed = Run(checkpoint_in(folder))
    assert_equal(resumed, Run())
    assert resumed.steps == 1


def test_between_checkpoints_steps_are_repeated(folder: Path) -> None:
    checkpoint = checkpoint_in(folder, NEVER)
    with pytest.raises(Killed):
        Run(checkpoint, cut_off=7)
    assert not folder.exists()
    assert Run(checkpoint).steps == N_STEPS


def test_an_interruption_is_written_where_it_comes(folder: Path) -> None:
    cut_off(folder, 3)
    with pytest.raises(KeyboardInterrupt):
        Run(checkpoint_in(folder, NEVER), interrupted=8)
    resumed = Run(checkpoint_in(folder, NEVER))
    assert_equal(resumed, Run())
    assert resumed.steps == 3


def test_the_interruption_of_a_short_training_writes_nothing(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Run(checkpoint_in(folder, NEVER), interrupted=8)
    assert not folder.exists()


def test_time_before_the_interruption_counts(folder: Path) -> None:
    file = cut_off(folder)
    saved = torch.load(file, weights_only=True)
    assert saved["contents"]["seconds"].keys() == set(PHASES)
    saved["contents"]["seconds"]["backward"] = 1000.0
    torch.save(saved, file)
    record = Run(checkpoint_in(folder)).record
    assert record.phases["backward"] > 1000 and 1000 < record.seconds < 1100
    assert record.phases["checkpoint"] > 0


def test_the_micro_batch_that_was_found_is_kept(folder: Path) -> None:
    micro_batches = MicroBatches("auto")
    micro_batches.found = 4
    cut_off(folder, micro_batches=micro_batches)
    assert Run(checkpoint_in(folder), micro_batches=MicroBatches("auto")).record.micro_batch == 4
    assert Run(checkpoint_in(folder), micro_batches=MicroBatches(8)).record.micro_batch == 8


def flip(file: Path) -> None:
    """One bit of a weight."""
    weight = torch.load(file, weights_only=True)["contents"]["model"]["0.weight"]
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(weight.numpy().tobytes())] ^= 1
    file.write_bytes(damaged)


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("code-was-run",)


def run_code(file: Path) -> None:
    torch.save({"key": file.stem, "contents": Code()}, file)


def swap(file: Path) -> None:
    other = Checkpoints(file.parent, ALWAYS).of({"training": "another one"})
    other.write({"step": 3})
    (written,) = set(file.parent.iterdir()) - {file}
    written.replace(file)


def tensor(file: Path) -> None:
    torch.save(torch.zeros(3), file)


def make_older(file: Path) -> None:
    saved = torch.load(file, weights_only=True)
    torch.save({**saved, "version": "0.0.1"}, file)


def widen(file: Path) -> None:
    file.unlink()
    cut_off(file.parent, width=9)


def leave_out(file: Path) -> None:
    saved = torch.load(file, weights_only=True)
    del saved["contents"]["random"]
    torch.save(saved, file)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flip, "is damaged"),
        (halve, "is damaged"),
        (empty, "is damaged"),
        (run_code, "is damaged"),
        (swap, "is of something else"),
        (tensor, "is of something else"),
        (make_older, "was written by version 0.0.1"),
        (widen, "does not fit the training"),
        (leave_out, "does not fit the training"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_training_starts_anew(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(cut_off(folder))
    with pytest.warns(UserWarning, match=reason) as caught:
        run = Run(checkpoint_in(folder, NEVER))
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert run.steps == N_STEPS
    assert_equal(run, Run())
    assert not (tmp_path / "code-was-run").exists()


def test_other_work_has_another_file(folder: Path) -> None:
    cut_off(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Run(Checkpoints(folder, NEVER).of({**WORK, "seed": 1})).steps == N_STEPS


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond a kilobyte."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_the_training_goes_on_with_one_warning(folder: Path) -> None:
    with pytest.warns(UserWarning, match="cannot be written") as caught, full_disk():
        run = Run(checkpoint_in(folder))
    assert len(caught) == 1
    assert_equal(run, Run())
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_does_not_end_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        Run(checkpoint_in(tmp_path / "file" / "checkpoints"))
    assert len(caught) == 1


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_process_killed_while_writing_leaves_the_file_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = cut_off(folder)
    before = file.read_bytes()

    def die(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[name], die)
        patched.setattr(Path, "unlink", lambda *arguments, **options: None)
        with pytest.raises(Killed):
            Run(checkpoint_in(folder))
    assert file.read_bytes() == before
    assert_equal(Run(checkpoint_in(folder)), Run())


def test_abandoned_files_are_removed_and_others_are_not(folder: Path) -> None:
    folder.mkdir()
    young, old = "0" * 32, "f" * 32
    kept = {f"{young}.checkpoint": 29, "my.checkpoint": 1000, "my.part": 1000}
    ages = {f"{old}.checkpoint": 31, f".{'0' * 8}.{old}.part": 0, **kept}
    for name, days in ages.items():
        (folder / name).write_text(name)
        changed = time.time() - days * 86_400
        os.utime(folder / name, (changed, changed))
    Checkpoints(folder).of(WORK).write({})
    found = {path.name for path in folder.iterdir()}
    assert found & ages.keys() == kept.keys()
    assert len(found) == 4


def test_the_interval_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    monkeypatch.setattr(time, "monotonic", lambda: now)
    checkpoint = checkpoint_in(folder, every=60)
    due = []
    for moment in (0.0, 59.0, 61.0, 100.0, 120.0, 122.0):
        now = moment
        due.append(checkpoint.is_due)
        if checkpoint.is_due:
            checkpoint.write({})
    assert due == [False, False, True, False, False, True]


@pytest.mark.parametrize("every", [0.0, -1.0, float("nan")])
def test_the_interval_is_positive(every: float) -> None:
    with pytest.raises(ValueError, match="`every` is"):
        Checkpoints(Path(), every)
