from __future__ import annotations

from datetime import datetime
from datetime import timedelta

import optuna
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import TrialState

from cbal_optuna.report import timeline
from cbal_optuna.stored_trials import INTERRUPTED


BEGIN = datetime(2026, 1, 1)


def study_of(*spans: tuple[float, float | None]) -> Study:
    """Trials from a second to another; of one that runs, the end is not known."""
    study = optuna.create_study()
    for start, end in spans:
        trial = create_trial(value=1.0)
        trial.datetime_start = BEGIN + timedelta(seconds=start)
        trial.datetime_complete = None
        if end is None:
            trial.state, trial.values = TrialState.RUNNING, None
        else:
            trial.datetime_complete = BEGIN + timedelta(seconds=end)
        study.add_trial(trial)
    return study


def bars(study: Study) -> dict[str, list[tuple[float, float, int]]]:
    """By what became of the trials: begin, length and line."""
    figure = timeline(study)
    return {bar.name: list(zip(bar.base, bar.x, bar.y)) for bar in figure.data}


def test_trials_one_after_the_other_share_a_line() -> None:
    found = bars(study_of((0, 2), (2, 5), (7, 8)))
    assert found == {"completed": [(0, 2, 1), (2, 3, 1), (7, 1, 1)]}


def test_trials_at_the_same_time_have_lines_of_their_own_and_lines_are_used_again() -> None:
    found = bars(study_of((0, 10), (1, 3), (2, 4), (3, 5)))
    assert [line for _, _, line in found["completed"]] == [1, 2, 3, 2]


def test_a_trial_that_runs_goes_on_until_the_last_that_is_known() -> None:
    assert bars(study_of((0, 4), (1, None)))["running"] == [(1, 3, 2)]


def test_long_studies_are_in_minutes_and_hours() -> None:
    titles = [
        timeline(study_of((0, seconds))).layout.xaxis.title.text for seconds in (60, 600, 20_000)
    ]
    assert [title.split()[0] for title in titles] == ["seconds", "minutes", "hours"]


def test_a_study_without_trials_says_so() -> None:
    assert timeline(study_of()).layout.annotations[0].text == "No trial has begun yet."


def test_a_trial_that_was_interrupted_is_shown_as_such() -> None:
    study = optuna.create_study()
    trial = create_trial(state=TrialState.FAIL, user_attrs={INTERRUPTED: "Interrupted: SIGTERM"})
    trial.datetime_start, trial.datetime_complete = BEGIN, BEGIN + timedelta(seconds=3)
    study.add_trial(trial)
    assert bars(study) == {"interrupted": [(0, 3, 1)]}
