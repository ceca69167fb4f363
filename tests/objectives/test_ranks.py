"""This file is also what torchrun starts: ``test_ranks.py FOLDER``."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import optuna
from optuna.trial import TrialState
import pytest
import torch
from torch import distributed

from cbal_optuna.data import Digits
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives.search_space import Setting
from cbal_optuna.training import Augmentation
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import Ranks
from cbal_optuna.training import ranks_of_environment
from cbal_optuna.training import TrainingOptions


pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch.distributed has no gloo",
)

N_RANKS, N_STEPS, BATCH_SIZE = 2, 10, 32
# No float32 is this number.
TEMPERATURE = 0.1 + 2**-50


def digits(folder: Path, on_step: Callable[[], None] = lambda: None) -> RetrievalObjective:
    """Without dropout, augmentation and statistics of batches, a training has no random numbers
    after its beginning and treats each image by itself."""
    return RetrievalObjective(
        Digits(),
        backbone="test_resnet",
        weights="random",
        image_size=8,
        embedding_dim=8,
        test_share=0.3,
        space=SearchSpace(temperature=TEMPERATURE, batch_size=BATCH_SIZE),
        training=TrainingOptions(BATCH_SIZE * N_STEPS, n_evaluations=2, batch_norm="frozen"),
        augmentation=Augmentation(min_area=1.0, flip=False),
        device="cpu",
        cache_directory=folder / "cache",
        checkpoints=Checkpoints(folder / "checkpoints", 1e-9),
        on_step=on_step,
    )


class Mishaps:
    """Errors that meet a rank before some of its steps, counted from here on."""

    def __init__(self, errors: Mapping[int, BaseException]) -> None:
        self.errors = errors
        self._n_steps = 0

    def __call__(self) -> None:
        self._n_steps += 1
        if self._n_steps in self.errors:
            raise self.errors[self._n_steps]


class PrunedOnce(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number == 3


def run_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    ranks = ranks_of_environment()
    assert isinstance(ranks, Ranks)
    if not ranks.leads:
        follow(folder, ranks)
        return
    study = optuna.create_study(direction="maximize", pruner=PrunedOnce())
    for n_trials, errors in ((5, {}), (1, {7: KeyboardInterrupt("in trial 5")}), (3, {})):
        objective = digits(folder, Mishaps(errors))
        objective.share(ranks)
        with suppress(KeyboardInterrupt):
            study.optimize(objective, n_trials=n_trials, catch=(Exception,))
        if errors:
            # The setting is evaluated again.
            study.enqueue_trial(study.trials[-1].params)
    ranks.end()
    trials = [
        {
            "state": trial.state.name,
            "value": trial.value,
            "balance": trial.params["balance"],
            "infeasible": trial.user_attrs.get("infeasible"),
            "failure": trial.user_attrs.get("failure"),
        }
        for trial in study.trials
    ]
    (folder / "trials.json").write_text(json.dumps(trials))


def follow(folder: Path, ranks: Ranks) -> None:
    errors = {15: ValueError("lost in trial 1"), 25: MemoryError("out of it in trial 2")}
    objective = digits(folder, Mishaps(errors))
    objective.share(ranks)
    settings = []
    trained = objective._trained

    def noted(setting: Setting, *rest: Any) -> Any:
        settings.append(setting)
        if len(settings) == 8:
            raise ValueError("not ready for trial 7")
        return trained(setting, *rest)

    objective._trained = noted  # type: ignore[method-assign]
    objective.follow()
    (folder / "settings.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    digits(folder).prepare()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={N_RANKS}", __file__, str(folder)]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trials(folder: Path) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = json.loads((folder / "trials.json").read_text())
    return trials


def test_a_training_is_that_of_one_process(folder: Path, trials: list[dict[str, Any]]) -> None:
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"balance": trials[0]["balance"]})
    study.optimize(digits(folder / "alone"), n_trials=1)
    assert trials[0]["value"] == pytest.approx(study.best_value, abs=1e-4)


def test_settings_reach_the_other_ranks_bit_for_bit(
    folder: Path, trials: list[dict[str, Any]]
) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    assert [setting["balance"] for setting in settings] == [t["balance"] for t in trials]
    assert {setting["temperature"] for setting in settings} == {TEMPERATURE}


def test_a_rank_that_fails_fails_the_trial_alone(trials: list[dict[str, Any]]) -> None:
    assert trials[1]["state"] == TrialState.FAIL.name
    assert trials[1]["failure"] == "OtherRankError: on rank 1: ValueError: lost in trial 1"
    assert trials[4]["state"] == TrialState.COMPLETE.name


def test_a_rank_that_cannot_begin_is_not_waited_for(trials: list[dict[str, Any]]) -> None:
    assert trials[7]["state"] == TrialState.FAIL.name
    assert trials[7]["failure"] == "OtherRankError: on rank 1: ValueError: not ready for trial 7"
    assert trials[8]["state"] == TrialState.COMPLETE.name


def test_a_rank_without_memory_makes_the_setting_infeasible(trials: list[dict[str, Any]]) -> None:
    assert trials[2]["state"] == TrialState.COMPLETE.name
    expected = "out of memory: on rank 1: MemoryError: out of it in trial 2"
    assert trials[2]["infeasible"] == expected


def test_a_trial_that_is_pruned_ends_on_all_ranks(trials: list[dict[str, Any]]) -> None:
    assert trials[3]["state"] == TrialState.PRUNED.name
    assert trials[4]["state"] == TrialState.COMPLETE.name


def test_an_interrupted_training_goes_on_from_the_checkpoint_of_the_leader(
    folder: Path, trials: list[dict[str, Any]]
) -> None:
    assert trials[5]["state"] == TrialState.FAIL.name
    assert trials[6]["balance"] == trials[5]["balance"]
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"balance": trials[6]["balance"]})
    study.optimize(digits(folder / "alone"), n_trials=1)
    assert trials[6]["value"] == pytest.approx(study.best_value, abs=1e-4)


def test_batches_are_to_be_divisible(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`batch_size` may be 32; with 3 processes"):
        digits(tmp_path).share(Ranks(distributed.HashStore(), 0, 3))


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]))
