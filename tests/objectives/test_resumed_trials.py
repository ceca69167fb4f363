"""Trials that were cut off. This file is also the program that is killed:
``test_resumed_trials.py FOLDER STEP`` runs a study there and dies before that step."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest

from cbal_optuna.data import Digits
from cbal_optuna.objectives import InfeasibleSettingError
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.training import Checkpoint
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import TrainingOptions


Objectives = Callable[..., RetrievalObjective]

# Of the tiny objective: 512 samples in batches of 32.
N_STEPS = 16
# With as many steps; its batches are small enough for half of the classes.
FOLDS = {
    "folds": 2,
    "space": SearchSpace("infonce", batch_size=16),
    "training": TrainingOptions(samples=256, n_evaluations=2),
}


class Countdown:
    """Counts training steps, and acts before one of them."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.steps = 0
        self._step, self._act = step, act

    def __call__(self) -> None:
        self.steps += 1
        if self.steps == self._step:
            self._act()


def interrupt() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    raise OSError("the disk is gone")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def objective(tiny_objective: Objectives, folder: Path) -> Objectives:
    """With a checkpoint before each step."""

    def make(**arguments: Any) -> RetrievalObjective:
        return tiny_objective(checkpoints=Checkpoints(folder, 1e-9), **arguments)

    return make


def evaluated(objective: RetrievalObjective, **arguments: Any) -> FrozenTrial:
    """A trial of the usual setting."""
    study = optuna.create_study(direction="maximize", **arguments)
    study.enqueue_trial(objective.space.searched(objective.space.usual))
    study.optimize(objective, n_trials=1, catch=(Exception,))
    return study.trials[0]


def numbers(trial: FrozenTrial) -> dict[str, Any]:
    """All that does not depend on the clock or the memory."""
    names = ("map_at_r", "nmi", "positive", "entropy", "gradient_ratio", "curve", "values")
    return {"value": trial.value, **{name: trial.user_attrs[name] for name in names}}


def steps_trained(monkeypatch: pytest.MonkeyPatch, objective: RetrievalObjective) -> list[int]:
    """Filled with the batch size of each step from now on."""
    steps: list[int] = []
    objective.prepare()
    regime = objective._regime
    assert regime is not None
    inputs = regime.training_inputs
    monkeypatch.setattr(
        regime, "training_inputs", lambda items: steps.append(len(items)) or inputs(items)
    )
    return steps


@pytest.mark.parametrize("head_only", [True, False])
def test_an_interrupted_trial_goes_on_in_the_next(
    objective: Objectives, monkeypatch: pytest.MonkeyPatch, folder: Path, head_only: bool
) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluated(objective(head_only=head_only, on_step=Countdown(11, interrupt)))
    assert len(list(folder.iterdir())) == 1
    resumed = objective(head_only=head_only)
    steps = steps_trained(monkeypatch, resumed)
    trial = evaluated(resumed)
    assert len(steps) == N_STEPS - 10
    assert list(folder.iterdir()) == []
    expected = evaluated(objective(head_only=head_only))
    assert numbers(trial) == numbers(expected)
    assert trial.intermediate_values == expected.intermediate_values
    assert len(trial.intermediate_values) == 2


@pytest.mark.parametrize("changes", [{"seed": 1}, {"embedding_dim": 4}, {"loss": "margin"}])
def test_another_training_does_not_go_on_from_it(
    objective: Objectives,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluated(objective(on_step=Countdown(11, interrupt)))
    other = objective(**changes)
    steps = steps_trained(monkeypatch, other)
    evaluated(other)
    assert len(steps) == N_STEPS


@pytest.mark.parametrize("n_ended", [0, 1, 2, 3])
def test_repeats_and_folds_that_had_ended_are_not_done_again(
    objective: Objectives, monkeypatch: pytest.MonkeyPatch, folder: Path, n_ended: int
) -> None:
    several = {**FOLDS, "repeats": 2}
    with pytest.raises(KeyboardInterrupt):
        evaluated(objective(**several, on_step=Countdown(n_ended * N_STEPS + 4, interrupt)))
    resumed = objective(**several)
    steps = steps_trained(monkeypatch, resumed)
    trial = evaluated(resumed)
    assert len(steps) == (4 - n_ended) * N_STEPS - 3
    assert list(folder.iterdir()) == []
    expected = evaluated(objective(**several))
    assert numbers(trial) == numbers(expected)
    assert trial.intermediate_values == expected.intermediate_values
    assert trial.user_attrs.keys() == expected.user_attrs.keys()


def test_a_training_is_not_done_again_that_was_cut_off_at_its_very_end(
    objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Checkpoint.remove

    def cut_off(checkpoint: Checkpoint) -> None:
        remove(checkpoint)
        interrupt()

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "remove", cut_off)
        evaluated(objective())
    again = objective()
    steps = steps_trained(monkeypatch, again)
    assert evaluated(again).state == TrialState.COMPLETE
    assert steps == []


def test_what_a_trial_has_found_is_kept_until_the_storage_has_it(
    objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed = objective()
    with monkeypatch.context() as patched:
        patched.setattr(
            "cbal_optuna.objectives.objective.record_feasibility", lambda *_, **__: fail()
        )
        assert evaluated(resumed).state == TrialState.FAIL
    steps = steps_trained(monkeypatch, resumed)
    assert numbers(evaluated(resumed)) == numbers(evaluated(objective()))
    assert steps == []


@pytest.mark.parametrize("contents", [{}, {"outcomes": [{"record": {}}], "values": [[]]}])
def test_what_has_another_layout_is_ignored(
    objective: Objectives, folder: Path, contents: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluated(objective(**FOLDS, on_step=Countdown(N_STEPS + 1, interrupt)))
    (file,) = folder.iterdir()
    Checkpoint(file, 60).write(contents)
    with pytest.warns(UserWarning, match="does not fit these trainings"):
        trial = evaluated(objective(**FOLDS))
    assert numbers(trial) == numbers(evaluated(objective(**FOLDS)))


class Never(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return True


def test_a_pruned_trial_leaves_nothing(objective: Objectives, folder: Path) -> None:
    trial = evaluated(objective(), pruner=Never())
    assert trial.state == TrialState.PRUNED
    assert list(folder.iterdir()) == []


def test_an_infeasible_trial_leaves_nothing(
    objective: Objectives, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infeasible() -> None:
        raise InfeasibleSettingError("diverged: for good")

    trial = evaluated(objective(repeats=2, on_step=Countdown(20, infeasible)))
    assert trial.user_attrs["infeasible"] == "diverged: for good"
    assert list(folder.iterdir()) == []


def test_an_error_keeps_the_checkpoint_until_it_comes_again(
    objective: Objectives, folder: Path
) -> None:
    for n_files in (1, 0):
        trial = evaluated(objective(on_step=Countdown(11, fail)))
        assert trial.user_attrs["failure"] == "OSError: the disk is gone"
        assert len(list(folder.iterdir())) == n_files


def test_a_short_trial_writes_nothing(tiny_objective: Objectives, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    evaluated(tiny_objective(checkpoints=Checkpoints(folder), repeats=2))
    with pytest.raises(KeyboardInterrupt):
        evaluated(
            tiny_objective(checkpoints=Checkpoints(folder), on_step=Countdown(11, interrupt))
        )
    assert not folder.exists()


def test_a_comparison_on_fresh_seeds_goes_on_in_the_middle_of_a_training(
    objective: Objectives, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    usual = {"balance": 1.0, "temperature": 0.1}
    best = {**usual, "balance": 4.0}

    def compared(objective: RetrievalObjective, storage: InMemoryStorage) -> Any:
        comparison = compare_settings(
            objective, storage, "tiny", usual, best, part=VALIDATION, n_seeds=1
        )
        return comparison.best["map_at_r"], comparison.usual["map_at_r"]

    storage = InMemoryStorage()
    step = 3 * N_STEPS + 6
    with pytest.raises(KeyboardInterrupt):
        compared(objective(**FOLDS, on_step=Countdown(step, interrupt)), storage)
    resumed = objective(**FOLDS)
    steps = steps_trained(monkeypatch, resumed)
    assert compared(resumed, storage) == compared(objective(**FOLDS), InMemoryStorage())
    assert len(steps) == N_STEPS - 5
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("sampler", ["cd", "tpe", "random", "gp"])
def test_the_same_command_goes_on_with_the_trial_that_was_interrupted(
    objective: Objectives, sampler: str
) -> None:
    storage, n_trials = InMemoryStorage(), 5
    # Of 16 to 64 steps each, by their batch size.
    interrupted = objective(on_step=Countdown(70, interrupt))
    with pytest.raises(KeyboardInterrupt):
        run_trials(open_study("tiny", storage, interrupted, sampler, 0), interrupted, n_trials)
    study = open_study("tiny", storage, objective(), sampler, 0)
    (failed,) = study.get_trials(states=(TrialState.FAIL,))
    run_trials(study, objective(), n_trials)
    again = study.trials[failed.number + 1]
    assert again.params == failed.params and again.state == TrialState.COMPLETE
    assert len(study.trials) == n_trials + 1


def test_coordinate_descent_with_an_interruption_equals_that_without(
    objective: Objectives,
) -> None:
    def searched(storage: InMemoryStorage, objective: RetrievalObjective) -> Any:
        study = open_study("tiny", storage, objective, "cd", 0)
        run_trials(study, objective, 8)
        trials = study.get_trials(states=(TrialState.COMPLETE,))
        return [(t.params, numbers(t)) for t in trials]

    storage = InMemoryStorage()
    with pytest.raises(KeyboardInterrupt):
        searched(storage, objective(on_step=Countdown(110, interrupt)))
    assert searched(storage, objective()) == searched(InMemoryStorage(), objective())


# What the process does that is killed


def digits(folder: Path, on_step: Callable[[], None]) -> RetrievalObjective:
    return RetrievalObjective(
        Digits(),
        backbone="test_resnet",
        weights="random",
        image_size=32,
        embedding_dim=8,
        test_share=0.3,
        training=TrainingOptions(samples=128 * 10, n_evaluations=2),
        repeats=2,
        device="cpu",
        cache_directory=folder / "cache",
        checkpoints=Checkpoints(folder / "checkpoints", 1e-9),
        on_step=on_step,
    )


def work(folder: Path, step: int) -> None:
    objective = digits(folder, Countdown(step, kill))
    study = open_study("digits", stored(folder), objective, "cd", 0)
    run_trials(study, objective, 1)


def stored(folder: Path) -> RDBStorage:
    return open_storage(f"sqlite:///{folder}/study.db")


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_killed_trial_is_retried_from_its_last_step(tmp_path: Path) -> None:
    # In the second of two trainings of ten steps.
    step = 14
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, __file__, str(tmp_path), str(step)]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    assert any((tmp_path / "checkpoints").iterdir())

    storage = stored(tmp_path)
    with storage.engine.begin() as connection:
        # As if the last sign of life were an hour old.
        connection.exec_driver_sql(
            "UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')"
        )
    resumed = digits(tmp_path, lambda: None)
    with pytest.MonkeyPatch.context() as patched:
        steps = steps_trained(patched, resumed)
        study = open_study("digits", storage, resumed, "cd", 0)
        run_trials(study, resumed, 1)
    killed, retried = study.trials
    assert (killed.state, retried.state) == (TrialState.FAIL, TrialState.COMPLETE)
    # The step before was done, but not written yet.
    assert len(steps) == 20 - (step - 2)
    expected = evaluated(digits(tmp_path, lambda: None))
    assert numbers(retried) == numbers(expected)
    assert retried.intermediate_values == expected.intermediate_values
    assert list((tmp_path / "checkpoints").iterdir()) == []


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
