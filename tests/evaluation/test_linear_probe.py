from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
import torch
from torch import Tensor

from cbal_optuna.evaluation import linear_probe_accuracy


def items(n: int, seed: int, n_classes: int = 4, width: int = 6) -> tuple[Tensor, Tensor]:
    """Features of very different scales, around the centres of their classes, with overlaps."""
    centres = 1.5 * torch.randn(n_classes, width, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    noise = 1.5 * torch.randn(n, width, generator=generator)
    return (centres[labels] + noise) * torch.logspace(-1, 1, width) + 30, labels


@pytest.mark.parametrize("weight_decay", [1e-3, 1.0])
def test_accuracy_is_that_of_scikit_learn(weight_decay: float) -> None:
    (features, labels), (training, known) = items(1000, seed=1), items(300, seed=2)
    mean, scale = training.mean(0), training.std(0).mean()
    theirs = LogisticRegression(C=1 / (300 * weight_decay), max_iter=10_000, tol=1e-8)
    theirs.fit(((training - mean) / scale).double().numpy(), known.numpy())
    expected = theirs.score(((features - mean) / scale).double().numpy(), labels.numpy())
    accuracy = linear_probe_accuracy(features, labels, training, known, weight_decay=weight_decay)
    assert accuracy == pytest.approx(expected, abs=2e-3)
    assert 0.4 < accuracy < 0.95


def test_the_numbers_of_classes_do_not_matter_and_nothing_is_random() -> None:
    (features, labels), (training, known) = items(100, seed=1), items(100, seed=2)
    names = torch.tensor([70, 3, 12, 5])
    torch.manual_seed(1)
    accuracy = linear_probe_accuracy(features, labels, training, known)
    torch.manual_seed(2)
    assert linear_probe_accuracy(features, names[labels], training, names[known]) == accuracy


def test_it_works_where_gradients_are_off() -> None:
    (features, labels), (training, known) = items(50, seed=1), items(50, seed=2)
    with torch.no_grad():
        accuracy = linear_probe_accuracy(features, labels, training, known)
    assert accuracy == linear_probe_accuracy(features, labels, training, known) > 0.4


def test_constant_features_give_the_share_of_the_largest_class() -> None:
    labels = torch.tensor([0] * 6 + [1] * 4)
    assert linear_probe_accuracy(torch.ones(10, 3), labels, torch.ones(10, 3), labels) == 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
        ({"training_features": torch.zeros(3, 5)}, "`training_features` must have the 4 columns"),
        ({"training_features": torch.full((3, 4), np.inf)}, "`training_features` must be finite"),
        ({"training_labels": torch.ones(3, dtype=int)}, "`training_labels` must hold at least 2"),
        ({"labels": torch.arange(2)}, "`labels` must be integers of shape"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    good = {
        "features": torch.ones(3, 4),
        "labels": torch.arange(3),
        "training_features": torch.ones(3, 4),
        "training_labels": torch.arange(3),
    }
    with pytest.raises(ValueError, match=message):
        linear_probe_accuracy(**{**good, **change})  # type: ignore[arg-type]
