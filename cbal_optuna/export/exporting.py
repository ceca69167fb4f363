"""The model of a study's recommended setting, trained and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optuna.study import Study

from cbal_optuna.export.card import model_card
from cbal_optuna.export.folder import CARD
from cbal_optuna.export.folder import replaced
from cbal_optuna.export.timm_form import TimmForm
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import versions
from cbal_optuna.retraining import fresh_seeds
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import summarize


def export_model(
    folder: Path,
    objective: Objective[Outcome],
    study: Study,
    comparisons: Sequence[SettingComparison] = (),
) -> None:
    """Train the recommended setting on everything but the test set and write the model.

    It is trained with the first seed of the final trainings, whatever their results: the best one
    would look better than it is.

    Args:
        folder:
            Where to; a new folder, or an earlier export, which is replaced at once.
        objective, study:
            The study and what it searched.
        comparisons:
            What is known of the setting from fresh seeds, for the model card.

    Raises:
        InfeasibleSettingError: The training does not come to its end.
        ValueError: The study has no feasible trial.
        OSError: The folder cannot be written, or is none that may be replaced.
    """
    trial = summarize(study).recommended
    setting = objective.space.completed(trial.params)
    (seed,) = fresh_seeds(objective, TEST, 1)
    model = objective.final_model(setting, seed=seed)
    try:
        with replaced(folder) as part:
            form = TimmForm.of(model)
            own = {"seed": seed, "setting": setting, "versions": versions()}
            form.write(part, own)
            card = model_card(folder.resolve().name, form, objective, study, seed, comparisons)
            (part / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise OSError(f"the model cannot be written: {error}") from error
