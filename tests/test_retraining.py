from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.artifacts import get_all_artifact_meta
from optuna.storages import InMemoryStorage
from optuna.storages import RDBStorage
from optuna.trial import create_trial
import pytest

from cbal_optuna.evaluation import EmbeddingSpread
from cbal_optuna.objectives import retrieval
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives.outcome import EarlierOutcome
from cbal_optuna.retraining import compare_settings
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.retraining import stored_comparisons
from cbal_optuna.storage import open_storage
from cbal_optuna.training import Checkpoints


USUAL = {"balance": 1.0, "temperature": 0.1, "batch_size": 16}
BEST = {"balance": 4.0, "temperature": 0.2, "batch_size": 32}
USUAL_WHOLE = {
    **USUAL,
    "denominator": "negatives",
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
}
ARTIFACTS = {"map.png", "neighbours.jpg", "pictures.json"}


def compared(
    objective: RetrievalObjective,
    storage: optuna.storages.BaseStorage,
    part: str = "validation",
    n_seeds: int = 2,
) -> SettingComparison:
    return compare_settings(objective, storage, "tiny", USUAL, BEST, part=part, n_seeds=n_seeds)


def spied_runs(
    objective: RetrievalObjective, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, object]]:
    """The arguments of every training from now on."""
    runs: list[dict[str, object]] = []
    run = objective.run

    def spy(setting, train_classes, evaluation_classes, *, seed, **others):  # type: ignore[no-untyped-def]
        runs.append({"train": train_classes, "evaluation": evaluation_classes, "seed": seed})
        return run(setting, train_classes, evaluation_classes, seed=seed, **others)

    monkeypatch.setattr(objective, "run", spy)
    return runs


def test_seeds_are_fresh_and_paired(
    tiny_objective: Callable[..., RetrievalObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective(seed=7, repeats=3)
    runs = spied_runs(objective, monkeypatch)
    comparison = compared(objective, InMemoryStorage())
    assert [run["seed"] for run in runs] == [1007, 1007, 1008, 1008]
    assert comparison.seeds == (1007, 1008)
    difference = comparison.best["map_at_r"] - comparison.usual["map_at_r"]
    assert comparison.difference("map_at_r").mean == pytest.approx(difference.mean())


def test_trainings_that_collapse_are_counted(
    tiny_objective: Callable[..., RetrievalObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([1.0, 3.0, 1.0, 1.0])
    monkeypatch.setattr(
        retrieval, "embedding_spread", lambda embeddings: EmbeddingSpread(0.5, next(found))
    )
    storage = InMemoryStorage()
    assert compared(tiny_objective(), storage).collapsed == (2, 1)
    (again,) = stored_comparisons(storage, "tiny", USUAL, BEST)
    assert again.collapsed == (2, 1)


def test_only_the_test_comparison_touches_test_classes(
    tiny_objective: Callable[..., RetrievalObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective()
    (split,) = objective.splits
    runs = spied_runs(objective, monkeypatch)
    compared(objective, InMemoryStorage(), "validation", 1)
    assert {(run["train"], run["evaluation"]) for run in runs} == {(split.train, split.validation)}
    runs.clear()
    compared(objective, InMemoryStorage(), "test", 1)
    assert {(run["train"], run["evaluation"]) for run in runs} == {
        (split.train_and_validation, split.test)
    }


def test_trainings_of_another_objective_are_not_taken_for_ones_own(
    tiny_objective: Callable[..., RetrievalObjective],
) -> None:
    storage = InMemoryStorage()
    compared(tiny_objective(), storage, n_seeds=1)
    with pytest.raises(ValueError, match="'tiny.validation' is a study with embedding_dim 8"):
        compared(tiny_objective(embedding_dim=16), storage, n_seeds=1)


def test_an_interrupted_comparison_goes_on_where_it_was(
    tiny_objective: Callable[..., RetrievalObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, storage = tiny_objective(), InMemoryStorage()
    first = compared(objective, storage, n_seeds=1)
    runs = spied_runs(objective, monkeypatch)
    both = compared(objective, storage, n_seeds=2)
    assert len(runs) == 2
    assert both.best["map_at_r"][0] == first.best["map_at_r"][0]


@pytest.fixture
def storage(tmp_path: Path) -> RDBStorage:
    return open_storage(f"sqlite:///{tmp_path}/tiny.db")


def names_of_artifacts(storage: optuna.storages.BaseStorage, part: str) -> list[set[str]]:
    """By trial."""
    trials = optuna.load_study(study_name=f"tiny.{part}", storage=storage).trials
    metas = [get_all_artifact_meta(trial, storage=storage) for trial in trials]
    return [{meta.filename for meta in own} for own in metas]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_first_training_of_each_setting_has_pictures(
    tiny_objective: Callable[..., RetrievalObjective], storage: RDBStorage, part: str
) -> None:
    objective = tiny_objective()
    comparison = compared(objective, storage, part)
    assert names_of_artifacts(storage, part) == [ARTIFACTS, ARTIFACTS, set(), set()]
    assert comparison.pictures is not None
    assert comparison.pictures.seed == comparison.seeds[0]
    _, evaluated = objective.divisions(part)[0]
    for pictures in comparison.pictures.read().values():
        assert set(pictures.map.labels) == set(evaluated)
        assert set(pictures.classes.values()) <= set(evaluated)


def test_pictures_agree_with_what_was_measured(
    tiny_objective: Callable[..., RetrievalObjective], storage: RDBStorage
) -> None:
    comparison = compared(tiny_objective(), storage, n_seeds=1)
    assert comparison.pictures is not None
    for pictures, measured in zip(
        comparison.pictures.read().values(), (comparison.usual, comparison.best), strict=True
    ):
        # Of two validation classes of ten images each, every image is a query.
        right = [search.is_right for search in pictures.searches]
        assert len(right) == 20
        assert np.mean(right) == pytest.approx(measured["recall_at_1"][0])


def test_stored_comparisons_have_their_pictures(
    tiny_objective: Callable[..., RetrievalObjective], storage: RDBStorage
) -> None:
    comparison = compared(tiny_objective(), storage)
    (stored,) = stored_comparisons(storage, "tiny", USUAL, BEST)
    assert stored.pictures == comparison.pictures


@pytest.mark.parametrize(
    ("measures", "held_out"),
    [
        (None, None),
        (["map_at_r"], None),
        (3, "classes"),
        ([], "classes"),
        ([{}], "classes"),
        (["another"], "classes"),
    ],
)
def test_a_study_of_something_else_is_no_comparison(measures: Any, held_out: str | None) -> None:
    storage, found = InMemoryStorage(), {"seed": 1000, "map_at_r": 0.5}
    study = optuna.create_study(study_name="tiny.test", storage=storage)
    for name, value in {"measures": measures, "held_out": held_out}.items():
        if value is not None:
            study.set_user_attr(name, value)
    study.add_trials(create_trial(value=1.0, user_attrs=found) for _ in range(2))
    assert stored_comparisons(storage, "tiny", {}, {}) == []


def test_a_training_whose_seed_is_a_text_is_not_compared(
    tiny_objective: Callable[..., RetrievalObjective],
) -> None:
    storage = InMemoryStorage()
    compared(tiny_objective(), storage, n_seeds=1)
    study = optuna.load_study(study_name="tiny.validation", storage=storage)
    for trial in study.trials:
        trial.user_attrs["seed"] = "<b>"
        study.add_trial(trial)
    (stored,) = stored_comparisons(storage, "tiny", USUAL, BEST)
    assert stored.seeds == (1000,)


def test_without_a_place_for_artifacts_there_are_no_pictures(
    tiny_objective: Callable[..., RetrievalObjective],
) -> None:
    assert compared(tiny_objective(), InMemoryStorage()).pictures is None


def test_pictures_that_cannot_be_kept_cost_no_training(
    tiny_objective: Callable[..., RetrievalObjective], storage: RDBStorage, tmp_path: Path
) -> None:
    (tmp_path / "tiny_artifacts").touch()
    with pytest.warns(UserWarning, match="the pictures of the embeddings are not kept: "):
        comparison = compared(tiny_objective(), storage, n_seeds=1)
    assert comparison.pictures is None and len(comparison.best["map_at_r"]) == 1


def test_a_training_that_had_ended_keeps_its_pictures(
    tiny_objective: Callable[..., RetrievalObjective], storage: RDBStorage, tmp_path: Path
) -> None:
    objective = tiny_objective(checkpoints=Checkpoints(tmp_path / "checkpoints", 1e-9))
    arguments: dict[str, Any] = {"part": "validation", "seeds": [1000], "pictured": True}
    with pytest.raises(KeyboardInterrupt), objective.outcomes(USUAL_WHOLE, **arguments) as first:
        raise KeyboardInterrupt
    with objective.outcomes(USUAL_WHOLE, **arguments) as again:
        assert isinstance(again[0], EarlierOutcome)
        assert again[0].pictures is not None
        assert again[0].pictures == first[0].pictures
