from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.data import LabelledImages
from cbal_optuna.data import UNLABELLED
from cbal_optuna.evaluation import knn_accuracy
from cbal_optuna.feasibility import is_feasible
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import SelfSupervisedObjective
from cbal_optuna.objectives import SelfSupervisedSpace
from cbal_optuna.report.words import outcome
from cbal_optuna.retraining import compare_settings
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import EndToEnd
from cbal_optuna.training import PHASES
from cbal_optuna.training import TrainingOptions


Objectives = Callable[..., SelfSupervisedObjective]

ATTRIBUTES = {
    "knn_accuracy",
    "spread",
    "effective_rank",
    "positive",
    "entropy",
    "gradient_ratio",
    "curve",
    "seconds",
    *(f"{phase}_seconds" for phase in PHASES),
    "samples_per_second",
    "peak_memory_mb",
    "micro_batch",
    "values",
    "seed",
    "versions",
}


@pytest.fixture
def tiny(colours: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    """Makes objectives; keyword arguments replace its own."""

    def make(dataset: LabelledImages = colours, **arguments: Any) -> SelfSupervisedObjective:
        own: dict[str, Any] = {
            "backbone": "test_resnet",
            "image_size": 32,
            "embedding_dim": 8,
            "space": SelfSupervisedSpace(batch_size=CategoricalDistribution((8, 16))),
            "training": TrainingOptions(samples=64, n_evaluations=2),
            "cache_directory": tmp_path_factory.getbasetemp() / "cache",
        }
        return SelfSupervisedObjective(dataset, **{**own, **arguments})

    return make


def trial_of(objective: SelfSupervisedObjective, **searched: Any) -> FrozenTrial:
    """One trial, at the start of the search but for what is said."""
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({**objective.space.searched(objective.space.start), **searched})
    study.optimize(objective, n_trials=1, catch=Exception)
    return study.trials[0]


def regime_of(objective: SelfSupervisedObjective) -> EndToEnd:
    objective.prepare()
    assert isinstance(objective._regime, EndToEnd)
    return objective._regime


def run(objective: SelfSupervisedObjective, **arguments: Any) -> Any:
    (division,) = objective.divisions("validation")
    return objective.run(objective.space.start, *division, **{"seed": 0, **arguments})


def test_pictures_are_of_held_out_images_that_search_labelled_ones(
    tiny: Objectives, colours: LabelledImages
) -> None:
    colours.labels[::7] = UNLABELLED
    objective = tiny(colours)
    (training, held_out), *_ = objective.divisions("validation")
    pictures = run(objective, pictured=True).pictures
    assert {search.query for search in pictures.searches} == set(held_out)
    assert sorted(pictures.map.labels) == sorted(colours.labels[list(held_out)])
    found = {found.item for search in pictures.searches for found in search.found}
    assert found <= set(training) and all(colours.labels[list(found)] >= 0)
    assert run(objective).pictures is None


def spied(
    objective: SelfSupervisedObjective, monkeypatch: pytest.MonkeyPatch, method: str
) -> list[list[int]]:
    """The images that a method of the regime is given from now on."""
    regime = regime_of(objective)
    original = getattr(regime, method)
    calls: list[list[int]] = []

    def spy(items: np.ndarray) -> Tensor:
        calls.append(items.tolist())
        return original(items)

    monkeypatch.setattr(regime, method, spy)
    return calls


@pytest.mark.parametrize("loss", ["infonce", "margin"])
def test_a_trial_says_what_its_training_was_like(tiny: Objectives, loss: str) -> None:
    objective = tiny(space=SelfSupervisedSpace(loss, batch_size=16))
    trial = trial_of(objective)
    assert trial.state == TrialState.COMPLETE and is_feasible(trial)
    attributes = trial.user_attrs
    assert set(attributes) - {"collapsed"} == ATTRIBUTES
    assert 0 <= trial.value == attributes["knn_accuracy"] <= 1
    assert list(trial.intermediate_values) == [1, 2]
    assert trial.intermediate_values[2] == trial.value
    assert 0 <= attributes["spread"] <= 1 <= attributes["effective_rank"] <= 8
    assert attributes["samples_per_second"] * attributes["seconds"] == pytest.approx(64)
    assert attributes["micro_batch"] == 32
    assert json.loads(json.dumps(attributes)) == attributes


def test_batch_norm_has_two_views_of_each_image(tiny: Objectives) -> None:
    def prepare(micro_batch: int) -> None:
        training = TrainingOptions(samples=32, micro_batch=micro_batch)
        tiny(space=SelfSupervisedSpace(batch_size=3), training=training).prepare()

    with pytest.raises(ValueError, match="single image of a batch of 6"):
        prepare(1)
    prepare(2)


def test_the_value_is_the_mean_over_repeats_and_folds(tiny: Objectives) -> None:
    objective = tiny(repeats=2, folds=2, seed=5, space=SelfSupervisedSpace(batch_size=8))
    trial = trial_of(objective)
    expected = [
        objective.run(objective.space.start, *division, seed=seed).knn_accuracy
        for division in objective.divisions("validation")
        for seed in (5, 6)
    ]
    assert trial.user_attrs["values"] == expected
    assert trial.value == pytest.approx(np.mean(expected))


def test_the_seed_decides(tiny: Objectives) -> None:
    objective = tiny()
    first, again, other = (run(objective, seed=seed) for seed in (1, 1, 2))
    assert again.measures() == first.measures()
    assert again.record.positive == first.record.positive != other.record.positive


def test_the_accuracy_is_that_of_the_backbones_features(
    tiny: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny()
    regime = regime_of(objective)
    models: list[EmbeddingModel] = []
    make = regime.model
    monkeypatch.setattr(regime, "model", lambda items: models.append(make(items)) or models[-1])
    found = run(objective)
    ((train, validation),) = objective.divisions("validation")
    labels = torch.from_numpy(objective.dataset.labels)
    features = [regime.embed(models[0].backbone, items) for items in (validation, train)]
    expected = knn_accuracy(features[0], labels[validation], features[1], labels[train])
    assert found.knn_accuracy == expected
    assert isinstance(models[0].head, nn.Sequential)


def test_batches_hold_two_views_of_training_images(
    tiny: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny()
    batches = spied(objective, monkeypatch, "training_inputs")
    trial_of(objective, batch_size=8)
    assert [len(batch) for batch in batches] == [16] * 8
    assert all(batch[0::2] == batch[1::2] for batch in batches)
    ((train, _),) = objective.divisions("validation")
    assert {item for batch in batches for item in batch} <= set(train.tolist())


def test_two_views_of_an_image_differ(tiny: Objectives) -> None:
    objective = tiny()
    first, second = regime_of(objective).training_inputs(np.array([3, 3]))
    assert not torch.equal(first, second)


def test_labels_play_no_part_in_training(tiny: Objectives, colours: LabelledImages) -> None:
    objective = tiny()
    before = run(objective)
    divisions = objective.divisions("validation")
    colours.labels = np.random.default_rng(0).permutation(colours.labels)
    after = objective.run(objective.space.start, *divisions[0], seed=0)
    assert after.record.positive == before.record.positive
    assert after.spread == before.spread
    assert after.knn_accuracy != before.knn_accuracy


def test_only_the_test_comparison_touches_test_images_and_fits_a_linear_probe(
    tiny: Objectives, colours: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours.test_images = np.arange(0, 120, 4)
    objective = tiny()
    seen = spied(objective, monkeypatch, "inputs")
    setting = objective.space.searched(objective.space.usual)
    compared = {}
    for part in ("validation", "test"):
        seen.clear()
        compared[part] = compare_settings(
            objective, InMemoryStorage(), "tiny", setting, setting, part=part, n_seeds=1
        )
        used = {item for items in seen for item in items}
        assert used == set(range(120)) - (set() if part == "test" else set(range(0, 120, 4)))
    assert list(compared["validation"].usual) == ["knn_accuracy", "spread", "effective_rank"]
    assert compared["test"].evaluated_on == "test images"
    assert 0 <= compared["test"].usual["linear_accuracy"][0] <= 1


def test_images_without_a_label_are_for_training_alone(
    tiny: Objectives, colours: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours.labels[::2] = UNLABELLED
    objective = tiny()
    trained = spied(objective, monkeypatch, "training_inputs")
    everything = spied(objective, monkeypatch, "inputs")
    run(objective)
    assert any(colours.labels[item] < 0 for batch in trained for item in batch)
    evaluated = [items for items in everything if items not in trained]
    assert evaluated and all(colours.labels[item] >= 0 for items in evaluated for item in items)


def galleries_of(
    objective: SelfSupervisedObjective, monkeypatch: pytest.MonkeyPatch
) -> list[list[int]]:
    """The training images that each evaluation embeds from now on."""
    regime = regime_of(objective)
    embed = regime.embed
    galleries: list[list[int]] = []

    def spy(model: nn.Module, items: np.ndarray) -> Tensor:
        if items[0] in training:
            galleries.append(items.tolist())
        return embed(model, items)

    ((training, _),) = objective.divisions("validation")
    monkeypatch.setattr(regime, "embed", spy)
    return galleries


def test_trials_classify_among_as_many_images_of_each_class_as_are_wanted(
    tiny: Objectives, colours: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours.labels[::10] = UNLABELLED
    objective = tiny(gallery_images=36)
    galleries = galleries_of(objective, monkeypatch)
    pictures = run(objective, pictured=True, seed=0).pictures
    run(objective, seed=1)
    assert len(galleries) == 4 and galleries == galleries[:1] * 4
    assert np.bincount(colours.labels[galleries[0]]).tolist() == [3] * 12
    found = {found.item for search in pictures.searches for found in search.found}
    assert found <= set(galleries[0])


def test_in_the_end_all_labelled_images_are_the_gallery(
    tiny: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny(gallery_images=36)
    galleries = galleries_of(objective, monkeypatch)
    run(objective, final=True)
    ((training, _),) = objective.divisions("validation")
    assert galleries == [training.tolist()] * 2


def test_a_gallery_of_more_images_than_there_are_is_all_of_them(tiny: Objectives) -> None:
    assert run(tiny(gallery_images=10**6)).measures() == run(tiny()).measures()


def constant_encoder(objective: SelfSupervisedObjective, monkeypatch: pytest.MonkeyPatch) -> None:
    """All embeddings become the same, and stay so."""
    regime = regime_of(objective)
    make = regime.model

    def model(items: np.ndarray) -> nn.Module:
        made = make(items)
        assert isinstance(made, EmbeddingModel) and isinstance(made.head, nn.Sequential)
        nn.init.zeros_(made.head[-1].weight)
        nn.init.ones_(made.head[-1].bias)
        return made

    monkeypatch.setattr(regime, "model", model)


def test_a_collapse_is_said_and_is_not_infeasible(
    tiny: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny(space=SelfSupervisedSpace(batch_size=16, learning_rate=1e-12))
    constant_encoder(objective, monkeypatch)
    trial = trial_of(objective)
    assert trial.state == TrialState.COMPLETE and is_feasible(trial)
    assert trial.value == trial.user_attrs["knn_accuracy"]
    assert trial.user_attrs["effective_rank"] == pytest.approx(1)
    assert trial.user_attrs["spread"] == pytest.approx(0, abs=1e-6)
    assert "effective rank 1.000, spread" in trial.user_attrs["collapsed"]
    assert outcome(trial) == "collapsed"


def test_an_embedding_that_tells_images_apart_has_not_collapsed(tiny: Objectives) -> None:
    space = SelfSupervisedSpace(batch_size=16, learning_rate=3e-3)
    trial = trial_of(tiny(space=space, training=TrainingOptions(samples=800, n_evaluations=1)))
    assert trial.user_attrs["effective_rank"] > 1.5
    assert trial.user_attrs["positive"] < -0.3
    assert "collapsed" not in trial.user_attrs
    assert outcome(trial) == "completed"


def test_a_training_that_diverges_is_infeasible(tiny: Objectives) -> None:
    trial = trial_of(tiny(space=SelfSupervisedSpace(batch_size=16, learning_rate=1e30)))
    assert trial.value == 0.0 and not is_feasible(trial)
    assert trial.user_attrs["infeasible"].startswith("diverged: ")


def test_the_description_names_what_trials_share(tiny: Objectives) -> None:
    description = tiny().description
    assert json.loads(json.dumps(description)) == description
    assert "images_per_class" not in description
    assert description["test_images"] == 24
    changed = [
        tiny(image_size=48),
        tiny(small_stem=True),
        tiny(test_share=0.5),
        tiny(folds=2),
        tiny(space=SelfSupervisedSpace(batch_size=16)),
        tiny(training=TrainingOptions(samples=65)),
        tiny(gallery_images=24),
    ]
    assert all(objective.description != description for objective in changed)


def test_the_usual_setting_is_that_of_self_supervised_learning() -> None:
    assert SelfSupervisedSpace().usual == SelfSupervisedSpace().start
    usual = SelfSupervisedSpace().usual
    assert (usual["balance"], usual["temperature"], usual["batch_size"]) == (1.0, 0.5, 256)
    assert SelfSupervisedSpace().batch_sizes == [64, 128, 256, 512, 1024]
    assert SelfSupervisedSpace("margin").usual["batch_size"] == 256
    assert SearchSpace().usual["temperature"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "margin"}, "`space` is of the infonce loss"),
        ({"repeats": 0}, "`repeats` is 0"),
        ({"embedding_dim": 0}, "`embedding_dim` is 0"),
        ({"image_size": 0}, "`image_size` is 0"),
        ({"gallery_images": 0}, "`gallery_images` is 0"),
        ({"seed": "a"}, "`seed` is 'a'"),
        ({"folds": 0}, "`folds` must be a whole number of at least 1"),
        ({"test_share": 0.99}, "`labels` must give an image or more"),
        ({"device": "abacus"}, "`device` is 'abacus'"),
        ({"weights": "pretrained", "small_stem": True}, "`weights` is 'pretrained', but a small"),
        ({"space": SelfSupervisedSpace()}, "`batch_size` must be from 2 to the number of images"),
        ({"training": TrainingOptions(samples=10)}, "`samples` is 10; it should be at least"),
    ],
)
def test_bad_arguments_are_named(
    tiny: Objectives, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet0"}, "`backbone` is 'resnet0'"),
        ({"backbone": "test_vit", "small_stem": True}, "`small_stem` is True, but the first"),
        ({"weights": "missing.pt"}, "`weights` is 'missing.pt', which is no file"),
    ],
)
def test_bad_models_are_named_when_they_are_made(
    tiny: Objectives, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**arguments).prepare()


def test_decoded_images_are_kept(tiny: Objectives, tmp_path: Path) -> None:
    tiny(cache_directory=tmp_path).prepare()
    assert len(list(tmp_path.glob("images-*.npy"))) == 1


def test_an_interrupted_training_goes_on_where_it_was(tiny: Objectives, tmp_path: Path) -> None:
    drawn: list[int] = []

    def interrupt_before_step_3() -> None:
        drawn.append(1)
        if len(drawn) == 3:
            raise KeyboardInterrupt

    checkpoints = Checkpoints(tmp_path, 1e-9)
    with pytest.raises(KeyboardInterrupt):
        run(tiny(checkpoints=checkpoints, on_step=interrupt_before_step_3))
    (file,) = tmp_path.iterdir()
    assert torch.load(file, weights_only=True)["contents"]["step"] == 2
    resumed, expected = run(tiny(checkpoints=checkpoints)), run(tiny())
    assert resumed.measures() == expected.measures()
    assert resumed.record.gradient_ratio == expected.record.gradient_ratio
