"""From the options of a script to what the trials of its study evaluate."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.data import default_cache_directory
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.training import Checkpoints
from cbal_optuna.training import RANDOM
from cbal_optuna.training import TrainingOptions


def fill_in_defaults(options: argparse.Namespace, name: str) -> None:
    """The defaults that depend on other options or the environment."""
    if options.study_name is None:
        loss = "" if options.loss == "infonce" else f"-{options.loss}"
        sampler = "" if options.sampler == "cd" else f"-{options.sampler}"
        options.study_name = f"{name}{loss}{sampler}"
    if options.report is None:
        options.report = Path(f"{options.study_name}.html")
    if options.cache_dir is None:
        options.cache_dir = default_cache_directory()
    if options.checkpoint_dir is None:
        options.checkpoint_dir = options.cache_dir / "checkpoints"
    fine_tuned = options.weights != RANDOM and not getattr(options, "head_only", False)
    if options.learning_rate is None:
        options.learning_rate = 1e-4 if fine_tuned else 1e-3
    if options.batch_norm is None:
        options.batch_norm = "frozen" if fine_tuned else "train"


def objective_of(
    script: StudyScript,
    options: argparse.Namespace,
    on_step: Callable[[], None] = lambda: None,
) -> Objective[Outcome]:
    """What trials evaluate.

    Args:
        script, options:
            The script and its options, filled in.
        on_step:
            As for the objective.

    Raises:
        ValueError: An option is wrong, or does not fit the data.
        OSError: The data or the cache cannot be used.
    """
    training = TrainingOptions(
        samples=options.samples,
        learning_rate_rule=options.learning_rate_rule,
        micro_batch=options.micro_batch,
        batch_norm=options.batch_norm,
        compile=options.compile,
    )
    own: dict[str, Any] = {"augmentation": script.augmentation, "test_share": script.test_share}
    return script.objective(
        script.dataset(options),
        backbone=options.backbone,
        weights=options.weights,
        image_size=options.image_size,
        embedding_dim=options.embedding_dim,
        loss=options.loss,
        space=_space_of(script, options),
        repeats=options.repeats,
        folds=options.folds,
        prune=options.prune,
        device=options.device,
        seed=options.seed,
        cache_directory=options.cache_dir,
        cache_images=options.cache_images,
        checkpoints=Checkpoints(options.checkpoint_dir, options.checkpoint_every),
        on_step=on_step,
        **script.own_arguments(options, training),
        **{name: value for name, value in own.items() if value is not None},
    )


def _space_of(script: StudyScript, options: argparse.Namespace) -> SearchSpace:
    loss = options.space.get("loss", options.loss)
    if loss != options.loss:
        raise ValueError(
            f"`space` is of the loss {loss!r}, and `loss` is {options.loss!r}; both should be the "
            "same."
        )
    batch_sizes = sorted(set(options.batch_sizes))
    return script.space.from_dict(
        {
            "loss": loss,
            "learning_rate": options.learning_rate,
            "weight_decay": options.weight_decay,
            "batch_size": batch_sizes if len(batch_sizes) > 1 else batch_sizes[0],
            **options.space,
        }
    )
