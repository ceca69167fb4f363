from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import re
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.storages import InMemoryStorage
from optuna.study import Study
from PIL import Image
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cbal_optuna.data import LabelledImages
from cbal_optuna.data.images import read_image
from cbal_optuna.evaluation import retrieval_metrics
from cbal_optuna.export import export_model
from cbal_optuna.objectives import InfeasibleSettingError
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SelfSupervisedObjective
from cbal_optuna.objectives import SelfSupervisedSpace
from cbal_optuna.retraining import compare_settings
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.training import TrainingOptions


Searched = Callable[[Objective[Any]], Study]


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that exports are put into, with two images that are neither square nor RGB."""
    monkeypatch.chdir(tmp_path)
    for name, size in (("first.jpg", (50, 37)), ("second.jpg", (41, 60))):
        pixels = np.random.default_rng(size).integers(0, 255, size, np.uint8)
        Image.fromarray(pixels).save(name)
    return tmp_path


@pytest.fixture
def self_supervised(
    colours: LabelledImages, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., SelfSupervisedObjective]:
    def make(**arguments: Any) -> SelfSupervisedObjective:
        return SelfSupervisedObjective(
            colours,
            backbone="test_resnet",
            image_size=32,
            embedding_dim=8,
            space=SelfSupervisedSpace(batch_size=CategoricalDistribution((8, 16))),
            training=TrainingOptions(samples=64, n_evaluations=1),
            cache_directory=tmp_path_factory.getbasetemp() / "cache",
            **arguments,
        )

    return make


def snippets(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)


def ran(*codes: str) -> dict[str, Any]:
    """What is there after the code of a model card."""
    names: dict[str, Any] = {}
    for code in codes:
        exec(code, names)
    return names


def embedded_by_card(folder: Path, dataset: LabelledImages, n_snippets: int = 1) -> Tensor:
    names = ran(*snippets(folder)[:n_snippets])
    embedded: Tensor = names["embed"]([dataset.image(i) for i in range(len(dataset))])
    return embedded.clone()


def test_a_head_only_export_is_the_model_of_the_first_final_training(
    tiny_objective: Callable[..., RetrievalObjective], searched: Searched, tmp_path: Path
) -> None:
    objective = tiny_objective()
    study = searched(objective)
    usual = study.best_params
    best = {**usual, "balance": 4.0}
    study.enqueue_trial(best)
    study.optimize(objective, n_trials=1)
    comparison = compare_settings(
        objective,
        InMemoryStorage(),
        "tiny",
        usual,
        study.best_params,
        part="test",
        n_seeds=2,
    )
    export_model(tmp_path / "model", objective, study, [comparison])
    dataset, test = objective.dataset, objective._items(objective.splits[0].test)
    embeddings = embedded_by_card(tmp_path / "model", dataset)[test]
    metrics = retrieval_metrics(embeddings, torch.from_numpy(dataset.labels[test]), ks=(1,))
    assert metrics.map_at_r == pytest.approx(comparison.best["map_at_r"][0], abs=1e-6)
    assert f"| MAP@R | {metrics.map_at_r:.4g} |" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        {"head_only": True},
        {"head_only": False},
        {"head_only": False, "backbone": "test_vit", "image_size": 48},
        {"head_only": True, "backbone": "deit_tiny_distilled_patch16_224", "image_size": 32},
    ],
    ids=["head only", "end to end", "other size", "two classifiers"],
)
def test_the_card_embeds_as_the_trained_model_does(
    tiny_objective: Callable[..., RetrievalObjective],
    searched: Searched,
    tmp_path: Path,
    arguments: dict[str, Any],
) -> None:
    training = TrainingOptions(samples=128, n_evaluations=1)
    objective = tiny_objective(training=training, **arguments)
    study = searched(objective)
    export_model(tmp_path / "model", objective, study)
    setting = objective.space.completed(study.best_params)
    trained, _, _ = objective._trained(
        setting,
        objective._items(objective.splits[0].train_and_validation),
        2000,
        lambda model: (0.0, None),
    )
    items = np.arange(len(objective.dataset))
    wanted = normalize(objective._prepared().embed(trained, items))
    got = embedded_by_card(tmp_path / "model", objective.dataset)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "L", "1"])
def test_the_card_reads_images_as_the_training_does(
    tiny_objective: Callable[..., RetrievalObjective],
    searched: Searched,
    beside: Path,
    mode: str,
) -> None:
    objective = tiny_objective()
    export_model(beside / "model", objective, searched(objective))
    embed = ran(*snippets(beside / "model"))["embed"]
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    path = beside / ("image.tiff" if mode == "CMYK" else "image.png")
    # The fourth number of a pixel is its opacity, but for CMYK.
    image = Image.fromarray(pixels, "CMYK" if mode == "CMYK" else "RGBA").convert(mode)
    image.save(path, **({"transparency": bytes(range(256))} if mode == "P" else {}))
    got, wanted = embed([Image.open(path)]), embed([read_image(path)])
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("small_stem", [False, True])
def test_the_card_of_a_self_supervised_model_has_features_and_embeddings(
    self_supervised: Callable[..., SelfSupervisedObjective],
    searched: Searched,
    tmp_path: Path,
    small_stem: bool,
) -> None:
    objective = self_supervised(small_stem=small_stem)
    study = searched(objective)
    export_model(tmp_path / "model", objective, study)
    model = objective.final_model(objective.space.completed(study.best_params), seed=2000)
    regime, items = objective._prepared(), np.arange(len(objective.dataset))
    for n_snippets, trained in ((1, model.backbone), (2, model)):
        got = embedded_by_card(tmp_path / "model", objective.dataset, n_snippets)
        wanted = normalize(regime.embed(trained, items))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_a_card_says_what_the_model_is(
    tiny_objective: Callable[..., RetrievalObjective], searched: Searched, tmp_path: Path
) -> None:
    objective = tiny_objective()
    objective.dataset.name = "birds | <b>*\n"
    objective.dataset.class_names[0] = "\x1b[1m`\udce9"
    study = searched(objective)
    export_model(tmp_path / "model", objective, study)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    for words in (
        r"| data set | birds \| \<b\>\* : 120 images, 12 classes |",
        "| trained on | 60 images of 6 classes |",
        "| these 6 classes | \ufffd\\[1m\\`\ufffd, colour 1, ",
        "| kept for the test | 60 images of 6 classes |",
        "| balance | 1, searched |",
        "| denominator | negatives |",
        "| seed | 2000, the first",
        "Not measured with fresh seeds",
        "timm 1.",
    ):
        assert words in card
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architecture"] == "test_resnet"
    assert config["num_classes"] == config["cbal_optuna"]["embedding_dim"] == 8
    assert config["cbal_optuna"]["setting"]["balance"] == 1.0
    assert config["cbal_optuna"]["seed"] == 2000


def test_what_a_comparison_was_evaluated_on_is_no_markup_of_a_card(
    tiny_objective: Callable[..., RetrievalObjective], searched: Searched, tmp_path: Path
) -> None:
    objective, values = tiny_objective(), {"map_at_r": np.array([0.1])}
    compared = SettingComparison("test", (2000,), values, values, held_out="<b>a_b</b>")
    export_model(tmp_path / "model", objective, searched(objective), [compared])
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert r"On the test \<b\>a\_b\</b\>, this model's seed" in card


def test_a_card_says_that_trainings_with_its_setting_collapsed(
    tiny_objective: Callable[..., RetrievalObjective], searched: Searched, tmp_path: Path
) -> None:
    objective, values = tiny_objective(), {"map_at_r": np.array([0.1])}
    compared = SettingComparison("test", (2000,), values, values, collapsed=(0, 1))
    export_model(tmp_path / "model", objective, searched(objective), [compared])
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "embeddings have collapsed: 1 of 1 with the best setting." in card


def test_a_folder_may_have_any_name(
    tiny_objective: Callable[..., RetrievalObjective], searched: Searched, tmp_path: Path
) -> None:
    folder = tmp_path / 'my "best" model\'s'
    objective = tiny_objective()
    export_model(folder, objective, searched(objective))
    assert ran(*snippets(folder))["embeddings"].shape == (2, 8)


def test_no_test_class_is_looked_at(
    tiny_objective: Callable[..., RetrievalObjective],
    searched: Searched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = tiny_objective()
    study = searched(objective)
    regime, seen = objective._prepared(), set()
    inputs = regime.inputs

    def spy(items: np.ndarray) -> Tensor:
        seen.update(objective.dataset.labels[items].tolist())
        return inputs(items)

    monkeypatch.setattr(regime, "inputs", spy)
    export_model(tmp_path / "model", objective, study)
    assert seen == set(objective.splits[0].train_and_validation)


def test_a_full_disk_leaves_nothing(
    tiny_objective: Callable[..., RetrievalObjective],
    searched: Searched,
    beside: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    objective = tiny_objective()
    study = searched(objective)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="cannot be written: .*No space left on device"):
        export_model(beside / "model", objective, study)
    assert sorted(os.listdir(beside)) == ["first.jpg", "second.jpg"]


def test_a_training_that_diverges_is_no_model(
    tiny_objective: Callable[..., RetrievalObjective], searched: Searched, beside: Path
) -> None:
    study = searched(tiny_objective())
    training = TrainingOptions(samples=512, learning_rate_rule="linear")
    objective = tiny_objective(training=training)
    objective.space._parameters["learning_rate"] = 1e30
    with pytest.raises(InfeasibleSettingError, match="diverged"):
        export_model(beside / "model", objective, study)
    assert sorted(os.listdir(beside)) == ["first.jpg", "second.jpg"]
