from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
import json
import math
from pathlib import Path
from typing import Any
import warnings

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest
import torch
from torch import nn
from torch import Tensor

from cbal_optuna.data import indices_of
from cbal_optuna.data import LabelledImages
from cbal_optuna.evaluation import retrieval_metrics
from cbal_optuna.feasibility import is_feasible
from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitTerms
from cbal_optuna.objectives import InfeasibleSettingError
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import Setting
from cbal_optuna.report.words import outcome
from cbal_optuna.training import Augmentation
from cbal_optuna.training import PHASES
from cbal_optuna.training import Regime
from cbal_optuna.training import TrainingOptions


Objectives = Callable[..., RetrievalObjective]

ATTRIBUTES = {
    "map_at_r",
    "r_precision",
    "recall_at_1",
    "recall_at_2",
    "recall_at_4",
    "recall_at_8",
    "nmi",
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


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def study_of(
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    return optuna.create_study(
        sampler=sampler or optuna.samplers.RandomSampler(seed=0),
        pruner=pruner or optuna.pruners.NopPruner(),
        direction="maximize",
    )


def trial_of(
    objective: RetrievalObjective,
    pruner: optuna.pruners.BasePruner | None = None,
    **searched: Any,
) -> FrozenTrial:
    """One trial, at the start of the search but for what is said."""
    study = study_of(pruner=pruner)
    study.enqueue_trial({**objective.space.searched(objective.space.start), **searched})
    study.optimize(objective, n_trials=1, catch=Exception)
    return study.trials[0]


def map_at_r(objective: RetrievalObjective, seed: int = 0, **changes: Any) -> float:
    split = objective.splits[0]
    setting = {**objective.space.start, **changes}
    return objective.run(setting, split.train, split.validation, seed=seed).metrics.map_at_r


def regime_of(objective: RetrievalObjective) -> Regime:
    objective.prepare()
    assert objective._regime is not None
    return objective._regime


@pytest.mark.parametrize("head_only", [True, False])
@pytest.mark.parametrize("loss", ["infonce", "margin"])
def test_a_trial_says_what_its_training_was_like(
    tiny_objective: Objectives, loss: str, head_only: bool
) -> None:
    trial = trial_of(tiny_objective(loss=loss, head_only=head_only))
    assert trial.state == TrialState.COMPLETE
    attributes = trial.user_attrs
    assert set(attributes) == ATTRIBUTES
    assert 0 < trial.value == attributes["map_at_r"] <= attributes["r_precision"] <= 1
    recall = [attributes[f"recall_at_{k}"] for k in (1, 2, 4, 8)]
    assert recall == sorted(recall) and attributes["r_precision"] <= recall[-1] <= 1
    assert 0 <= attributes["nmi"] <= 1
    assert -1 <= attributes["positive"] <= 1
    assert attributes["gradient_ratio"] > 0
    assert attributes["samples_per_second"] * attributes["seconds"] == pytest.approx(512)
    assert set(attributes["versions"]) == {"cbal_optuna", "optuna", "timm", "torch"}
    assert attributes["versions"]["torch"] == torch.__version__
    assert json.loads(json.dumps(attributes)) == attributes


def test_the_value_is_that_of_the_last_evaluation(tiny_objective: Objectives) -> None:
    trial = trial_of(tiny_objective(training=TrainingOptions(samples=512, n_evaluations=4)))
    assert list(trial.intermediate_values) == [1, 2, 3, 4]
    assert trial.value == trial.intermediate_values[4]
    assert len(set(trial.intermediate_values.values())) > 1


def test_the_value_is_the_mean_over_repeats_and_folds(tiny_objective: Objectives) -> None:
    objective = tiny_objective(repeats=2, folds=2, seed=5, space=SearchSpace(batch_size=16))
    trial = trial_of(objective)
    expected = [
        objective.run(
            objective.space.start, split.train, split.validation, seed=seed
        ).metrics.map_at_r
        for split in objective.splits
        for seed in (5, 6)
    ]
    assert trial.user_attrs["values"] == expected
    assert len(set(expected)) == 4
    assert trial.value == pytest.approx(np.mean(expected))
    assert trial.user_attrs["map_at_r"] == trial.value
    assert trial.user_attrs["seed"] == 5


@pytest.mark.parametrize("prune", [True, False])
def test_a_trial_that_is_clearly_worse_is_spared_its_last_trainings(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch, prune: bool
) -> None:
    objective = tiny_objective(folds=3, prune=prune, space=SearchSpace(batch_size=16))
    split = objective.splits[0]
    known = objective.run(objective.space.start, split.train, split.validation, seed=0)
    folds = {s.validation: v for s, v in zip(objective.splits, (0.5, 0.32, 0.41))}

    def run(
        setting: Setting,
        train: object,
        evaluation: tuple[int, ...],
        *,
        on_outcome: Callable[[Outcome], None],
        **arguments: object,
    ) -> None:
        value = folds[evaluation] - 0.2 * abs(math.log2(setting["balance"] / 2.0))
        value += 0.001 * math.sin(1e3 * value)
        on_outcome(replace(known, metrics=replace(known.metrics, map_at_r=value)))

    monkeypatch.setattr(objective, "run", run)
    study = optuna.create_study(direction="maximize")
    for balance in (1.5, 2.0, 4.0, 2.01):
        study.enqueue_trial({"balance": balance, "temperature": 0.1})
    study.optimize(objective, n_trials=4)
    assert [len(t.user_attrs["values"]) for t in study.trials] == [3, 3, 1 if prune else 3, 3]
    assert [t.user_attrs.get("trainings") for t in study.trials][2] == (1 if prune else None)
    assert study.trials[2].value == pytest.approx(0.21, abs=0.003)
    assert study.best_trial.number == 1
    assert outcome(study.trials[2]) == ("ended early" if prune else "completed")


@pytest.mark.parametrize("head_only", [True, False])
def test_the_same_seed_gives_the_same_value_bit_for_bit(
    tiny_objective: Objectives, head_only: bool
) -> None:
    objective = tiny_objective(head_only=head_only)
    assert map_at_r(objective) == map_at_r(objective)
    assert map_at_r(tiny_objective(head_only=head_only)) == map_at_r(objective)
    assert map_at_r(objective, seed=1) != map_at_r(objective)


@pytest.mark.parametrize("head_only", [True, False])
def test_a_trial_does_not_depend_on_what_ran_before_it(
    tiny_objective: Objectives, head_only: bool
) -> None:
    alone = map_at_r(tiny_objective(head_only=head_only), balance=2.0)
    objective = tiny_objective(head_only=head_only)
    torch.manual_seed(123)
    np.random.seed(123)
    map_at_r(objective, balance=50.0, batch_size=8)
    with pytest.raises(InfeasibleSettingError):
        map_at_r(objective, learning_rate=1e38)
    assert map_at_r(objective, balance=2.0) == alone


@pytest.mark.parametrize("head_only", [True, False])
def test_torchs_random_state_is_left_as_it_was(
    tiny_objective: Objectives, tmp_path: Path, head_only: bool
) -> None:
    objective = tiny_objective(head_only=head_only, cache_directory=tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    trial_of(objective)
    trial_of(objective, pruner=optuna.pruners.ThresholdPruner(lower=1.5))
    with pytest.raises(InfeasibleSettingError):
        map_at_r(objective, learning_rate=1e38)
    assert torch.equal(torch.get_rng_state(), before)


class SpiedItems:
    """The classes of the images that a regime is asked for."""

    def __init__(self, objective: RetrievalObjective, monkeypatch: pytest.MonkeyPatch) -> None:
        self._labels = objective.dataset.labels
        self.trained: set[int] = set()
        self.evaluated: set[int] = set()
        regime = regime_of(objective)
        model, training_inputs, embed = regime.model, regime.training_inputs, regime.embed

        def spied_model(items: np.ndarray) -> Any:
            self.trained |= self._classes(items)
            return model(items)

        def spied_training_inputs(items: np.ndarray) -> Tensor:
            self.trained |= self._classes(items)
            return training_inputs(items)

        def spied_embed(model: Any, items: np.ndarray) -> Tensor:
            self.evaluated |= self._classes(items)
            return embed(model, items)

        monkeypatch.setattr(regime, "model", spied_model)
        monkeypatch.setattr(regime, "training_inputs", spied_training_inputs)
        monkeypatch.setattr(regime, "embed", spied_embed)

    def _classes(self, items: np.ndarray) -> set[int]:
        return set(self._labels[items].tolist())


@pytest.mark.parametrize("head_only", [True, False])
def test_a_trial_trains_on_training_classes_and_evaluates_on_validation_classes(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch, head_only: bool
) -> None:
    objective = tiny_objective(head_only=head_only)
    spied = SpiedItems(objective, monkeypatch)
    trial_of(objective)
    (split,) = objective.splits
    assert spied.trained == set(split.train)
    assert spied.evaluated == set(split.validation)
    assert not (spied.trained | spied.evaluated) & set(split.test)


def test_folds_never_touch_the_test_classes(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective(folds=3)
    spied = SpiedItems(objective, monkeypatch)
    trial_of(objective)
    assert spied.trained == spied.evaluated == set(range(6))
    assert all(split.test == tuple(range(6, 12)) for split in objective.splits)
    for split in objective.splits:
        assert not set(split.train) & set(split.validation)


def test_test_classes_are_used_when_asked_for(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective()
    spied = SpiedItems(objective, monkeypatch)
    (split,) = objective.splits
    objective.run(objective.space.start, split.train_and_validation, split.test, seed=0)
    assert spied.trained == set(range(6))
    assert spied.evaluated == set(range(6, 12))


@pytest.mark.parametrize(
    ("training", "searched"),
    [
        ({"samples": 512}, {"batch_size": 32}),
        ({"samples": 100}, {"batch_size": 16}),
        ({"samples": 100}, {"batch_size": 32}),
    ],
)
def test_the_budget_is_in_samples_seen(
    tiny_objective: Objectives,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, int],
    searched: dict[str, int],
) -> None:
    objective = tiny_objective(training=TrainingOptions(**training))
    batches: list[int] = []
    regime = regime_of(objective)
    training_inputs = regime.training_inputs

    def counted(items: np.ndarray) -> Tensor:
        batches.append(len(items))
        return training_inputs(items)

    monkeypatch.setattr(regime, "training_inputs", counted)
    trial_of(objective, **searched)
    size = searched["batch_size"]
    assert batches == [size] * (training["samples"] // size)


def test_a_batch_has_m_images_of_each_of_its_classes(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective(
        training=TrainingOptions(samples=64, images_per_class=8), space=SearchSpace(batch_size=16)
    )
    regime = regime_of(objective)
    training_inputs = regime.training_inputs
    labels = objective.dataset.labels

    def checked(items: np.ndarray) -> Tensor:
        assert set(np.bincount(labels[items]).tolist()) == {0, 8}
        return training_inputs(items)

    monkeypatch.setattr(regime, "training_inputs", checked)
    assert trial_of(objective).state == TrialState.COMPLETE


@pytest.mark.parametrize(("repeats", "folds"), [(1, 1), (3, 1), (2, 2)])
def test_steps_are_unique_and_increasing_for_the_pruner(
    tiny_objective: Objectives, repeats: int, folds: int
) -> None:
    objective = tiny_objective(repeats=repeats, folds=folds, space=SearchSpace(batch_size=16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a step that is reported twice
        trial = trial_of(objective)
    assert list(trial.intermediate_values) == list(range(1, 2 * repeats * folds + 1))


def test_a_short_training_has_fewer_evaluations(tiny_objective: Objectives) -> None:
    training = TrainingOptions(samples=64, n_evaluations=4)
    trial = trial_of(tiny_objective(training=training, repeats=2), batch_size=32)
    assert list(trial.intermediate_values) == [1, 2, 5, 6]
    assert trial.state == TrialState.COMPLETE


class PruneAt(optuna.pruners.BasePruner):
    def __init__(self, step: int) -> None:
        self._step = step

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.last_step == self._step


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_pruner_ends_a_trial_at_any_evaluation(tiny_objective: Objectives, step: int) -> None:
    trial = trial_of(tiny_objective(repeats=2), pruner=PruneAt(step))
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == list(range(1, step + 1))
    assert trial.value == trial.intermediate_values[step]
    assert "failure" not in trial.user_attrs and "infeasible" not in trial.user_attrs


def test_a_median_pruner_prunes_some_and_not_all(tiny_objective: Objectives) -> None:
    objective = tiny_objective(training=TrainingOptions(samples=256, n_evaluations=4))
    study = study_of(pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1))
    study.optimize(objective, n_trials=12)
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.PRUNED) > 0 and states.count(TrialState.COMPLETE) > 3


def assert_infeasible(trial: FrozenTrial, reason: str) -> None:
    assert trial.state == TrialState.COMPLETE
    assert trial.value == 0.0
    assert not is_feasible(trial)
    assert trial.user_attrs["infeasible"].startswith(reason)
    assert "failure" not in trial.user_attrs


@pytest.mark.parametrize("head_only", [True, False])
def test_a_training_that_diverges_is_infeasible(
    tiny_objective: Objectives, head_only: bool
) -> None:
    space = SearchSpace(batch_size=16, learning_rate=FloatDistribution(1e-4, 1e30, log=True))
    objective = tiny_objective(space=space, head_only=head_only)
    assert_infeasible(trial_of(objective, learning_rate=1e30), "diverged: ")


def test_embeddings_that_are_not_finite_are_infeasible(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective()
    monkeypatch.setattr(
        regime_of(objective), "embed", lambda model, items: torch.full((len(items), 2), math.inf)
    )
    assert_infeasible(trial_of(objective), "diverged: the embeddings")


def test_a_loss_that_is_not_a_number_is_told_from_a_divergence(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = SplitInfoNCELoss.terms

    def spoilt(*arguments: Any) -> SplitTerms:
        positive, entropy = terms(*arguments)
        return SplitTerms(positive, entropy * math.nan)

    monkeypatch.setattr(SplitInfoNCELoss, "terms", spoilt)
    assert_infeasible(trial_of(tiny_objective()), "not a number: the loss was nan by step ")


def test_a_collapse_is_said_and_is_not_infeasible(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective()
    assert "collapsed" not in trial_of(objective).user_attrs
    regime = regime_of(objective)
    monkeypatch.setattr(regime, "embed", lambda model, items: torch.ones(len(items), 2))
    trial = trial_of(objective)
    assert is_feasible(trial) and trial.value == trial.user_attrs["map_at_r"]
    assert "effective rank 1.000, spread" in trial.user_attrs["collapsed"]


def cuda_out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def cpu_out_of_memory() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def numpy_out_of_memory() -> None:
    np.empty(1 << 60, dtype=np.uint8)


def raising(
    objective: RetrievalObjective, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]
) -> None:
    """Let the training do something in its second step."""
    regime = regime_of(objective)
    training_inputs = regime.training_inputs
    calls: list[None] = []

    def inputs(items: np.ndarray) -> Tensor:
        calls.append(None)
        if len(calls) == 2:
            act()
        return training_inputs(items)

    monkeypatch.setattr(regime, "training_inputs", inputs)


@pytest.mark.parametrize("act", [cuda_out_of_memory, cpu_out_of_memory, numpy_out_of_memory])
def test_a_training_out_of_memory_is_infeasible(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]
) -> None:
    objective = tiny_objective()
    raising(objective, monkeypatch, act)
    assert_infeasible(trial_of(objective), "out of memory: ")


class Cards:
    """Models for which more than some images at once are too many; counts their refusals."""

    def __init__(
        self, objective: RetrievalObjective, monkeypatch: pytest.MonkeyPatch, limit: int
    ) -> None:
        self.refused: list[int] = []
        regime = regime_of(objective)
        model = regime.model

        def check(module: nn.Module, inputs: tuple[Tensor]) -> None:
            if module.training and len(inputs[0]) > limit:
                self.refused.append(len(inputs[0]))
                cuda_out_of_memory()

        def limited(items: np.ndarray) -> nn.Module:
            made = model(items)
            made.register_forward_pre_hook(check)
            return made

        monkeypatch.setattr(regime, "model", limited)


@pytest.mark.parametrize("head_only", [True, False])
@pytest.mark.filterwarnings("ignore:a batch of 32")
def test_a_batch_that_does_not_fit_goes_through_the_model_in_micro_batches(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch, head_only: bool
) -> None:
    objective = tiny_objective(head_only=head_only)
    whole = trial_of(objective, batch_size=32)
    Cards(objective, monkeypatch, limit=8)
    trial = trial_of(objective, batch_size=32)
    assert is_feasible(trial) and trial.value is not None
    assert trial.value > 0.5 * whole.value
    assert whole.user_attrs["micro_batch"] == 32
    assert trial.user_attrs["micro_batch"] == 8
    assert trial_of(objective, batch_size=8).user_attrs["micro_batch"] == 8


@pytest.mark.filterwarnings("ignore:a batch of 32")
def test_a_trial_looks_once_for_what_fits_and_the_next_trial_for_itself(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective(repeats=2, space=SearchSpace(batch_size=32))
    cards = Cards(objective, monkeypatch, limit=8)
    trials = [trial_of(objective), trial_of(objective)]
    assert cards.refused == [32, 16, 32, 16]
    assert trials[0].value == trials[1].value


@pytest.mark.parametrize(
    ("micro_batch", "refused"), [("auto", [32, 16, 8, 4]), ("whole", [32]), (16, [16])]
)
def test_a_trial_is_infeasible_where_no_micro_batch_fits(
    tiny_objective: Objectives,
    monkeypatch: pytest.MonkeyPatch,
    micro_batch: int | str,
    refused: list[int],
) -> None:
    objective = tiny_objective(training=TrainingOptions(samples=512, micro_batch=micro_batch))
    cards = Cards(objective, monkeypatch, limit=3)
    assert_infeasible(trial_of(objective, batch_size=32), "out of memory: ")
    assert cards.refused == refused


def test_with_frozen_batch_norm_the_micro_batch_does_not_matter(
    tiny_objective: Objectives,
) -> None:
    def value(**options: Any) -> float:
        training = TrainingOptions(samples=128, **options)
        return map_at_r(tiny_objective(head_only=False, training=training), batch_size=32)

    frozen, frozen_in_chunks = (value(batch_norm="frozen", micro_batch=m) for m in ("whole", 8))
    assert frozen_in_chunks == pytest.approx(frozen, abs=0.01)
    assert abs(frozen - value(micro_batch="whole")) > 0.02


def test_batch_norm_of_a_single_image_is_refused(tiny_objective: Objectives) -> None:
    def prepare(**options: Any) -> None:
        training = TrainingOptions(samples=128, **options)
        tiny_objective(head_only=False, training=training).prepare()

    with pytest.raises(ValueError, match="`micro_batch` is 1, .* should be larger, or `batch"):
        prepare(micro_batch=1)
    prepare(micro_batch=1, batch_norm="frozen")
    prepare(micro_batch=2)


def test_without_batch_norm_a_micro_batch_may_be_one_image(tiny_objective: Objectives) -> None:
    training = TrainingOptions(samples=32, micro_batch=1)
    vit = tiny_objective(head_only=False, backbone="test_vit", training=training)
    vit.prepare()
    assert is_feasible(trial_of(vit, batch_size=8))


def test_images_may_be_decoded_each_time(tiny_objective: Objectives, tmp_path: Path) -> None:
    def objective(**options: Any) -> RetrievalObjective:
        return tiny_objective(head_only=False, cache_directory=tmp_path, **options)

    value = map_at_r(objective(cache_images=False))
    assert not list(tmp_path.glob("images-*"))
    assert value == map_at_r(objective())
    assert list(tmp_path.glob("images-*"))


def test_the_cache_directory_may_be_a_string(tiny_objective: Objectives, tmp_path: Path) -> None:
    tiny_objective(head_only=False, cache_directory=str(tmp_path / "cache")).prepare()
    assert list(tmp_path.glob("cache/images-*"))


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_trial_without_a_study_has_the_value_of_one_in_a_study(
    tiny_objective: Objectives, repeats: int
) -> None:
    objective = tiny_objective(repeats=repeats)
    trial = trial_of(objective)
    fixed = optuna.trial.FixedTrial(trial.params)
    assert objective(fixed) == objective(trial) == trial.value
    assert fixed.user_attrs["values"] == trial.user_attrs["values"]
    assert set(fixed.user_attrs) == ATTRIBUTES


def test_an_infeasible_trial_without_a_study_is_marked(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tiny_objective()
    raising(objective, monkeypatch, numpy_out_of_memory)
    fixed = optuna.trial.FixedTrial(objective.space.searched(objective.space.start))
    assert objective(fixed) == 0.0
    assert "infeasible" in fixed.user_attrs


def test_a_fixed_trial_that_lacks_a_parameter_is_told_which(tiny_objective: Objectives) -> None:
    with pytest.raises(ValueError, match="parameter 'temperature' is not found"):
        tiny_objective()(optuna.trial.FixedTrial({"balance": 1.0}))


def test_a_study_of_several_values_is_refused(tiny_objective: Objectives) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match="`directions` of the study are 2, but an objective has"):
        study.optimize(tiny_objective(), n_trials=1)


def test_a_study_that_looks_for_the_lowest_value_is_warned_of(tiny_objective: Objectives) -> None:
    with pytest.warns(UserWarning, match="`direction` should be 'maximize'"):
        optuna.create_study().optimize(tiny_objective(), n_trials=1)


def test_there_are_two_parts_to_evaluate_on(tiny_objective: Objectives) -> None:
    with pytest.raises(ValueError, match="`part` is 'tset'; it should be 'validation' or 'test'"):
        tiny_objective().divisions("tset")


@pytest.mark.parametrize("batch_size", [10, 18])
def test_a_batch_that_cannot_be_filled_is_infeasible(
    tiny_objective: Objectives, batch_size: int
) -> None:
    objective = tiny_objective(space=SearchSpace(batch_size=IntDistribution(8, 32)))
    trial = trial_of(objective, batch_size=batch_size)
    assert_infeasible(trial, "no batches: `batch_size` must be a multiple")


def test_too_few_classes_for_the_batch_are_infeasible(tiny_objective: Objectives) -> None:
    objective = tiny_objective()
    setting = {**objective.space.start, "batch_size": 32}
    with pytest.raises(InfeasibleSettingError, match="no batches: too few images: `batch_size`"):
        objective.run(setting, (0, 1), (2, 3), seed=0)


def runtime_error() -> None:
    raise RuntimeError("shapes do not match")


def bad_value() -> None:
    raise ValueError("a broken image")


@pytest.mark.parametrize(
    ("act", "failure"),
    [
        (runtime_error, "RuntimeError: shapes do not match"),
        (bad_value, "ValueError: a broken image"),
    ],
)
def test_an_unexpected_error_fails_the_trial_and_is_recorded(
    tiny_objective: Objectives,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], None],
    failure: str,
) -> None:
    objective = tiny_objective()
    raising(objective, monkeypatch, act)
    trial = trial_of(objective)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["failure"] == failure
    assert "infeasible" not in trial.user_attrs


def test_an_interrupted_trial_fails_and_the_interrupt_goes_on(
    tiny_objective: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    objective = tiny_objective()
    raising(objective, monkeypatch, interrupt)
    study = study_of()
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, n_trials=3)
    (trial,) = study.trials
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["interrupted"].startswith("KeyboardInterrupt")
    study.optimize(objective, n_trials=1)
    assert study.trials[1].state == TrialState.COMPLETE


@pytest.mark.filterwarnings("ignore:Constraints have been set, but CmaEsSampler")
@pytest.mark.parametrize(
    "sampler",
    [
        optuna.samplers.GPSampler(seed=0, n_startup_trials=2),
        optuna.samplers.TPESampler(seed=0, n_startup_trials=2),
        optuna.samplers.CmaEsSampler(seed=0, n_startup_trials=2),
        optuna.samplers.RandomSampler(seed=0),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_study_goes_on_after_infeasible_trials(
    tiny_objective: Objectives, sampler: optuna.samplers.BaseSampler
) -> None:
    objective = tiny_objective(
        space=SearchSpace(batch_size=IntDistribution(8, 32)), training=TrainingOptions(samples=64)
    )
    study = study_of(sampler)
    for batch_size in (16, 17, 18, 24):
        study.enqueue_trial({"balance": 1.0, "temperature": 0.1, "batch_size": batch_size})
    study.optimize(objective, n_trials=7)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 7
    assert [is_feasible(trial) for trial in study.trials[:4]] == [True, False, False, True]
    assert study.best_trial.value > 0


def test_other_hyper_parameters_are_those_of_the_training(tiny_objective: Objectives) -> None:
    space = SearchSpace(
        batch_size=16,
        learning_rate=FloatDistribution(1e-5, 1e-1, log=True),
        weight_decay=FloatDistribution(1e-5, 10.0, log=True),
    )
    objective = tiny_objective(space=space)
    values = {
        trial_of(objective, **searched).value
        for searched in (
            {"learning_rate": 1e-5, "weight_decay": 1e-5},
            {"learning_rate": 1e-1, "weight_decay": 1e-5},
            {"learning_rate": 1e-1, "weight_decay": 10.0},
        )
    }
    assert len(values) == 3


def test_preparing_finds_bad_input_before_any_trial(tiny_objective: Objectives) -> None:
    for arguments, name in (
        ({"backbone": "resnet_of_tomorrow"}, "backbone"),
        ({"weights": "missing.safetensors"}, "weights"),
        ({"backbone": "nest_tiny", "image_size": 33}, "image_size"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` is"):
            tiny_objective(**arguments).prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "triplet", "space": None}, "`loss` is 'triplet'"),
        ({"loss": "margin", "space": SearchSpace("infonce")}, "`space` is of the infonce loss"),
        (
            {"space": SearchSpace(balance=2.0, temperature=0.1, batch_size=16)},
            "`space` has nothing but fixed values",
        ),
        ({"image_size": 0}, "`image_size` is 0"),
        ({"embedding_dim": 0}, "`embedding_dim` is 0"),
        ({"repeats": 0}, "`repeats` is 0"),
        ({"folds": 0}, "`folds` must be"),
        ({"seed": "a"}, "`seed` is 'a'; it should be a whole number of at least 0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"image_size": "a"}, "`image_size` is 'a'; it should be a whole number of at least 1"),
        ({"embedding_dim": None}, "`embedding_dim` is None"),
        ({"repeats": 1.5}, "`repeats` is 1.5"),
        ({"folds": "a"}, "`folds` must be a whole number of at least 1, got 'a'"),
        ({"test_share": "a"}, "`test_share` must be a number between 0 and 1, .* got 'a'"),
        ({"folds": 4}, "`n_classes` must leave"),
        ({"test_share": 1.0}, "`test_share` must be"),
        ({"device": "abacus"}, "`device` is 'abacus'"),
        ({"device": "cuda:99"}, "`device` is 'cuda:99'"),
        ({"training": TrainingOptions(samples=8)}, "`samples` is 8; .* 32"),
        ({"training": TrainingOptions(samples=512, images_per_class=1)}, "`images_per_class` is"),
        ({"training": TrainingOptions(samples=512, images_per_class=3)}, "`batch_size` must be"),
        ({"space": SearchSpace(batch_size=512)}, "`batch_size` must not exceed"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    tiny_objective: Objectives, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_objective(**arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"balance": None}, "`setting` lacks balance; it should have balance, temperature, deno"),
        ({"balance": None, "batch_size": None}, "`setting` lacks balance, batch_size; it should"),
        ({"balnce": 1.0}, "`setting` has balnce; it should have balance, temperature, denomin"),
        ({"balance": FloatDistribution(1.0, 2.0)}, "`setting` lacks balance; it should"),
    ],
)
def test_a_setting_with_other_hyper_parameters_is_refused(
    tiny_objective: Objectives, changed: Setting, message: str
) -> None:
    objective = tiny_objective()
    setting = {**objective.space.start, **changed}
    setting = {name: value for name, value in setting.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        objective.run(setting, (0, 1, 2), (3, 4), seed=0)
    with pytest.raises(ValueError, match=message):
        objective.final_model(setting, seed=0)


def test_numpys_whole_numbers_are_seeds(tiny_objective: Objectives) -> None:
    assert json.dumps(tiny_objective(seed=np.int64(3)).seed) == "3"


class Single(LabelledImages):
    """One image in each class."""

    def __init__(self) -> None:
        super().__init__("single", range(40), [str(i) for i in range(40)])

    def image(self, index: int) -> Any:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return "single"


def test_classes_of_one_image_cannot_be_evaluated_on() -> None:
    space = SearchSpace(batch_size=CategoricalDistribution((8, 16)))
    with pytest.raises(ValueError, match="`dataset` single"):
        RetrievalObjective(Single(), space=space)


def test_the_test_set_is_the_data_sets_own(
    tiny_objective: Objectives, colours: LabelledImages
) -> None:
    colours.test_share = 1 / 3
    assert tiny_objective().splits[0].test == (8, 9, 10, 11)
    assert tiny_objective(test_share=0.5).splits[0].test == (6, 7, 8, 9, 10, 11)


def test_queries_of_the_test_classes_search_the_gallery_alone(
    tiny_objective: Objectives, colours: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours.is_query[60:] = np.arange(60) % 10 < 3
    objective = tiny_objective()
    embeddings = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(regime_of(objective), "embed", lambda model, items: embeddings[items])
    labels, queries = torch.from_numpy(colours.labels), torch.from_numpy(colours.is_query)
    gallery = ~queries & (labels >= 6)
    (split,) = objective.splits

    tested = objective.run(objective.space.start, split.train, split.test, seed=0).metrics
    assert tested.n_queries == 18
    assert tested == retrieval_metrics(
        embeddings[queries], labels[queries], embeddings[gallery], labels[gallery]
    )
    items = indices_of(colours.labels, split.validation)
    validated = objective.run(objective.space.start, split.train, split.validation, seed=0).metrics
    assert validated == retrieval_metrics(embeddings[items], labels[items])


def test_queries_without_any_match_are_refused(
    tiny_objective: Objectives, colours: LabelledImages
) -> None:
    colours.is_query[60:90] = True
    with pytest.raises(ValueError, match="noisy colours has no query with an image of its class"):
        tiny_objective()


def test_queries_are_part_of_what_a_study_evaluates(
    tiny_objective: Objectives, colours: LabelledImages
) -> None:
    before = tiny_objective().description
    colours.is_query[60] = True
    assert tiny_objective().description != before


def test_a_description_tells_studies_apart(tiny_objective: Objectives, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"any")
    changes: list[dict[str, Any]] = [
        {},
        {"loss": "margin"},
        {"backbone": "test_convnext"},
        {"weights": tmp_path / "weights.pt"},
        {"weights": "pretrained"},
        {"image_size": 16},
        {"embedding_dim": 9},
        {"space": SearchSpace(batch_size=16)},
        {"training": TrainingOptions(samples=600)},
        {"training": TrainingOptions(samples=512, learning_rate_rule="sqrt")},
        {"training": TrainingOptions(samples=512, batch_norm="frozen")},
        {"repeats": 2},
        {"folds": 3},
        {"test_share": 0.4},
        {"seed": 1},
        {"head_only": False},
        {"head_only": False, "augmentation": Augmentation(flip=False)},
    ]
    described = [
        json.dumps(tiny_objective(**{"cache_directory": tmp_path, **change}).description)
        for change in changes
    ]
    assert len(set(described)) == len(changes)


def test_a_description_leaves_out_what_does_not_matter(
    tiny_objective: Objectives, tmp_path: Path
) -> None:
    other = tiny_objective(
        device="cpu",
        cache_directory=tmp_path,
        augmentation=Augmentation(flip=False),
        training=TrainingOptions(samples=512, n_evaluations=2, micro_batch=8),
    )
    assert other.description == tiny_objective().description


def test_a_study_goes_on_compiled_or_not(tiny_objective: Objectives) -> None:
    plain, compiled = (
        tiny_objective(
            head_only=False,
            training=TrainingOptions(samples=512, n_evaluations=2, compile=compile),
        )
        for compile in (False, True)
    )
    assert compiled.description == plain.description


def test_a_description_is_plain_json(tiny_objective: Objectives) -> None:
    description = tiny_objective(head_only=False).description
    assert json.loads(json.dumps(description)) == description


def test_the_validation_images_alone_give_the_metrics(tiny_objective: Objectives) -> None:
    objective = tiny_objective()
    (split,) = objective.splits
    outcome = objective.run(objective.space.start, split.train, split.validation, seed=0)
    n_validation = len(indices_of(objective.dataset.labels, split.validation))
    assert outcome.metrics.n_queries == n_validation
    assert outcome.metrics.n_excluded == 0
    assert set(outcome.metrics.recall) == {1, 2, 4, 8}
