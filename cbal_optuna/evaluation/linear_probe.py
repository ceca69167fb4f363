"""Accuracy of a linear classifier on frozen features."""

from __future__ import annotations

import torch
from torch import nn
from torch import Tensor
from torch.nn.functional import cross_entropy

from cbal_optuna.evaluation.retrieval import check_embeddings


def linear_probe_accuracy(
    features: Tensor,
    labels: Tensor,
    training_features: Tensor,
    training_labels: Tensor,
    *,
    weight_decay: float = 1e-3,
    max_iterations: int = 200,
) -> float:
    """Fit a logistic regression to training features and give the share of others it classifies
    right.

    The mean of the training features is taken off, all are divided by their mean standard
    deviation. The loss is the mean cross-entropy plus half the weight decay times the sum of the
    squared weights, so scikit-learn's C is 1 / (n * weight_decay); the bias is free. It is convex,
    and minimised by L-BFGS in float32 from zero: nothing is random. Features are those of images
    that are not augmented, so the accuracy is not that of probes that are trained on crops.

    Args:
        features: Items to classify, shape (n, d).
        labels: Their classes, integers of shape (n,).
        training_features: Shape (m, d).
        training_labels: Integers of shape (m,), of two classes or more.
        weight_decay: At least 0.
        max_iterations: Of L-BFGS, which stops earlier at the minimum.

    Returns:
        The share, from 0 to 1.

    Raises:
        ValueError: If shapes or types do not fit, a feature is not finite, there is one class, or
            an argument is out of its range.
    """
    if not weight_decay >= 0:
        raise ValueError(f"`weight_decay` must be at least 0, got {weight_decay}.")
    check_embeddings(features, labels)
    check_embeddings(training_features, training_labels, "training_features", "training_labels")
    if features.shape[1] != training_features.shape[1]:
        raise ValueError(
            f"`training_features` must have the {features.shape[1]} columns of `features`, got "
            f"{training_features.shape[1]}."
        )
    names, targets = training_labels.to(features.device).unique(return_inverse=True)
    if len(names) < 2:
        raise ValueError("`training_labels` must hold at least 2 classes, got 1.")
    training = training_features.detach().to(features.device).float()
    mean, scale = training.mean(dim=0), training.std(dim=0).mean().clamp_min(1e-6)
    with torch.autocast(features.device.type, enabled=False):
        probe = _fitted((training - mean) / scale, targets, weight_decay, max_iterations)
        with torch.no_grad():
            predicted = probe((features.detach().float() - mean) / scale).argmax(dim=1)
    return (names[predicted] == labels.to(features.device)).double().mean().item()


@torch.enable_grad()
def _fitted(
    features: Tensor, targets: Tensor, weight_decay: float, max_iterations: int
) -> nn.Linear:
    probe = nn.Linear(features.shape[1], int(targets.max()) + 1, device=features.device)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.LBFGS(
        probe.parameters(),
        max_iter=max_iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = 0.5 * weight_decay * probe.weight.square().sum()
        value = cross_entropy(probe(features), targets) + penalty
        value.backward()
        return value

    optimizer.step(loss)
    return probe
