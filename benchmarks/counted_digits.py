"""A study for ``benchmarks/reliability.py`` that counts its training steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from torch import Tensor

from cbal_optuna.data import Digits
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.storage import open_storage
from cbal_optuna.study import open_study
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import Regime
from cbal_optuna.training import TrainingOptions


STUDY = "disasters"
_SAMPLES = 30_000


class CountedDigits(RetrievalObjective):
    """Writes a byte for each training step into the file ``steps`` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "steps"
        super().__init__(
            Digits(),
            backbone="test_resnet",
            weights="random",
            head_only=True,
            image_size=32,
            embedding_dim=8,
            space=SearchSpace(batch_size=CategoricalDistribution((32, 64))),
            training=TrainingOptions(samples=_SAMPLES, n_evaluations=4),
            cache_directory=folder / "cache",
            checkpoints=Checkpoints(folder / "checkpoints", 0.05),
        )

    def _make_regime(self) -> Regime:
        regime = super()._make_regime()
        inputs = regime.training_inputs

        def counted(items: np.ndarray) -> Tensor:
            with self._log.open("ab") as file:
                file.write(b".")
            return inputs(items)

        regime.training_inputs = counted  # type: ignore[method-assign]
        return regime

    @property
    def n_steps_done(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def n_steps_of(self, trials: Sequence[FrozenTrial]) -> int:
        """That these trials take when nothing happens."""
        sizes = [self.space.completed(trial.params)["batch_size"] for trial in trials]
        return sum(self.training.n_steps(size) for size in sizes)


def opened(url: str, folder: Path) -> tuple[Study, CountedDigits]:
    objective = CountedDigits(folder)
    objective.prepare()
    return open_study(STUDY, open_storage(url), objective, "cd", 0), objective


def of_state(study: Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))


def path_of(study: Study) -> list[tuple[dict[str, Any], float | None]]:
    """Where the finished trials were, and their values."""
    return [(trial.params, trial.value) for trial in of_state(study, TrialState.COMPLETE)]


def is_retried_once(study: Study) -> bool:
    """Whether each trial that failed has one retry, at its point."""
    trials = study.get_trials(deepcopy=False)
    retries = [t for t in trials if t.system_attrs.get("retry_history")]
    counts = Counter(t.system_attrs["retry_history"][-1] for t in retries)
    return all(counts[t.number] == 1 for t in trials if t.state == TrialState.FAIL) and all(
        t.params == trials[t.system_attrs["retry_history"][-1]].params for t in retries
    )


def is_stored_once(study: Study, n_trials: int) -> bool:
    """Whether as many trials are complete as were wanted by the last who joined, each at a point
    of its own, and no trial is left over."""
    complete = of_state(study, TrialState.COMPLETE)
    return (
        len(complete) >= n_trials
        and len({str(trial.params) for trial in complete}) == len(complete)
        and not of_state(study, TrialState.RUNNING)
        and is_retried_once(study)
    )
