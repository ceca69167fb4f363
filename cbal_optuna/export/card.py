"""The model card: what the model is, how to use it, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from datetime import datetime
from datetime import timezone

from optuna.study import Study

from cbal_optuna.export.snippets import embedding_snippet
from cbal_optuna.export.snippets import projection_snippet
from cbal_optuna.export.timm_form import TimmForm
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import versions
from cbal_optuna.report import code
from cbal_optuna.report import collapses
from cbal_optuna.report import escaped
from cbal_optuna.report import label
from cbal_optuna.report import markdown_table
from cbal_optuna.report import METRIC_NAMES
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import summarize


_MOST_NAMES = 30
# The first that reads safetensors from a local folder whatever the version of torch.
_TIMM = "1.0.26"
# Of the objective's description, what says nothing about this model.
_NOT_OF_THIS_MODEL = {
    "dataset",
    "images",
    "classes",
    "space",
    "n_evaluations",
    "repeats",
    "folds",
    "seed",
    "test_classes",
    "validation_images",
    "test_images",
}


def model_card(
    folder: str,
    form: TimmForm,
    objective: Objective[Outcome],
    study: Study,
    seed: int,
    comparisons: Sequence[SettingComparison],
) -> str:
    """In Markdown.

    Args:
        folder:
            The name of the folder that the card is in.
        form:
            The model.
        objective, study:
            Where its setting comes from.
        seed:
            That it was trained with.
        comparisons:
            What is known of the setting from fresh seeds.
    """
    sections = [
        _front_matter(),
        f"# {escaped(study.study_name)}",
        _summary(form, objective),
        "## Use",
        *_use(folder, form),
        "## Training",
        markdown_table(["", ""], *_training(objective, study, seed)),
        "## Results",
        *_results(study, seed, comparisons),
        "## Licence",
        "To be named by whoever passes the model on. Those of the images, and of the weights that "
        "the training started from, have a say.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter() -> str:
    return (
        "---\nlibrary_name: timm\npipeline_tag: image-feature-extraction\n"
        "tags:\n- metric-learning\n- contrastive-learning\n---"
    )


def _summary(form: TimmForm, objective: Objective[Outcome]) -> str:
    made = "features" if form.projects else "embeddings"
    description = objective.description
    return (
        f"Images to {made}: {escaped(description['backbone'])} as timm has it, trained with the "
        f"{escaped(description['loss'])} loss on {escaped(description['dataset'])}. What the "
        "study searched is set as in the trial that it recommends."
    )


def _use(folder: str, form: TimmForm) -> Iterator[str]:
    yield f"With timm {_TIMM} or later:"
    yield code(embedding_snippet(folder, form))
    if form.projects:
        yield (
            "These are features, from before the projection head of the training: as a rule they "
            "serve better than the embeddings that the loss saw. After these lines `embed` makes "
            "embeddings:"
        )
        yield code(projection_snippet(form))
    yield (
        f"An image is cut to its central square, that is resized to {form.image_size} x "
        f"{form.image_size} pixels and normalised by the mean and standard deviation of the "
        "configuration. `timm.data.create_transform(**data)` does so too, but for rounding where "
        "an image is not square. Grey of 16 bits is first to be scaled to 8, as it was for the "
        "training: Pillow cuts it off."
    )
    if form.stem:
        yield (
            "timm does not know this small stem, so the configuration names none of its models: "
            "the code above makes it."
        )


def _training(
    objective: Objective[Outcome], study: Study, seed: int
) -> Iterator[tuple[str, object]]:
    train_part, test_part = objective.divisions(TEST)[0]
    trial = summarize(study).recommended
    dataset = objective.dataset
    yield "data set", f"{dataset.name}: {len(dataset)} images, {dataset.n_classes} classes"
    for what, part in (("trained on", train_part), ("kept for the test", test_part)):
        images = f"{objective.n_images(part)} images"
        if objective.held_out != "classes":
            yield what, images
            continue
        yield what, f"{images} of {len(part)} classes"
        yield f"these {len(part)} classes", _names([dataset.class_names[c] for c in part])
    for name, value in objective.space.completed(trial.params).items():
        yield name, label(value) + (", searched" if name in trial.params else "")
    for name, value in objective.description.items():
        if name not in _NOT_OF_THIS_MODEL and value is not None:
            yield name, label(value)
    n_trials = len(study.get_trials(deepcopy=False))
    yield "setting", f"that of trial {trial.number} of {n_trials}, which the study recommends"
    yield "seed", f"{seed}, the first of those for final trainings; not the best of several"
    yield "versions", label(versions())
    yield "date", f"{datetime.now(timezone.utc):%Y-%m-%d}"


def _names(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMES} others" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + rest


def _results(study: Study, seed: int, comparisons: Sequence[SettingComparison]) -> Iterator[str]:
    if not comparisons:
        value = label(summarize(study).recommended.value)
        yield (
            "Not measured with fresh seeds. The trial whose setting this is had "
            f"{escaped(value)} on its validation part, luck included."
        )
    for comparison in comparisons:
        trained = (
            "this model's seed being the first"
            if comparison.part == TEST
            else "trained without the validation part, as in the study"
        )
        yield (
            f"On the {escaped(comparison.evaluated_on)}, {trained}: mean and 95 % interval by "
            f"Student's t distribution over trainings with the seeds {label(comparison.seeds)}."
        )
        header, rows = _measured(comparison, seed)
        yield markdown_table(header, *rows)
        yield from collapses(comparison)


def _measured(
    comparison: SettingComparison, seed: int
) -> tuple[list[str], Iterator[tuple[object, ...]]]:
    """The header and the rows of a table."""
    own = [comparison.seeds.index(seed)] if seed in comparison.seeds else []
    header = ["", *["this model's seed"] * len(own), "its setting", "the usual setting"]
    rows = (
        (
            METRIC_NAMES.get(metric, metric),
            *(label(float(comparison.best[metric][i])) for i in own),
            comparison.mean("best", metric),
            comparison.mean("usual", metric),
        )
        for metric in comparison.best
    )
    return header, rows
