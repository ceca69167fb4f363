from __future__ import annotations

from html import unescape
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import create_trial
from optuna.trial import FrozenTrial

from cbal_optuna.report import write_report
from cbal_optuna.report.timing import PHASE_ATTRIBUTES
from cbal_optuna.report.timing import where_the_time_goes


def trial(*seconds: float, **user_attrs: Any) -> FrozenTrial:
    return create_trial(
        value=0.0, user_attrs={**dict(zip(PHASE_ATTRIBUTES, seconds)), **user_attrs}
    )


def text(*trials: FrozenTrial) -> str:
    return unescape(where_the_time_goes(trials)).replace("\N{NO-BREAK SPACE}", " ")


def test_the_sentence_names_the_longest_phase_and_gives_medians() -> None:
    section = text(
        trial(10, 20, 0, 60, 0, 10, 0),
        trial(20, 20, 0, 50, 0, 10, 0),
        trial(90, 180, 0, 720, 0, 10, 0),
    )
    assert "A training takes 1 min 40 s, 60.0 % of it for the gradient: medians over\n3" in section
    assert "9.0 % to 20.0 %" in section


def test_trials_that_do_not_say_it_are_left_out() -> None:
    section = text(trial(1, 1, 1, 2, 1, 1, 0), trial(seed=0))
    assert "medians over\n1 trial." in section
    assert where_the_time_goes([trial(seed=0)]) == ""


def test_the_report_has_the_section_and_no_column_for_each_phase(tmp_path: Path) -> None:
    study = optuna.create_study()
    study.add_trial(trial(1, 1, 1, 2, 1, 1, 0, nmi=0.5))
    write_report(tmp_path / "report.html", study)
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Where the time goes</h2>" in page
    assert "nmi" in page and "backward_seconds" not in page
