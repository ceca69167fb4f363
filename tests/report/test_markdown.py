from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import distribution_to_json
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import SplitInfoNCELoss
from cbal_optuna import SplitMarginLoss
from cbal_optuna.report import result_markdown
from cbal_optuna.report.snippet import loss_snippet


BALANCE = FloatDistribution(0.1, 10, log=True)
BATCH_SIZE = CategoricalDistribution([32, 64])


def study_of(loss: str, **fixed: Any) -> Study:
    study = optuna.create_study(study_name="a|b", direction="maximize")
    space = {"balance": distribution_to_json(BALANCE), **fixed}
    study.set_user_attr("objective", {"loss": loss, "space": space})
    for balance in (1.0, 4.0):
        study.add_trial(
            create_trial(
                value=math.log(balance),
                params={"balance": balance, "batch_size": 64},
                distributions={"balance": BALANCE, "batch_size": BATCH_SIZE},
            )
        )
    return study


@pytest.mark.parametrize(
    ("loss", "fixed", "kind"),
    [
        ("infonce", {"temperature": 0.2, "denominator": "all"}, SplitInfoNCELoss),
        ("margin", {"margin": 0.3, "aggregation": "all"}, SplitMarginLoss),
    ],
)
def test_the_snippet_makes_the_loss_of_the_trial(
    loss: str, fixed: dict[str, Any], kind: type
) -> None:
    study = study_of(loss, learning_rate=1e-3, **fixed)
    lines = loss_snippet(study, study.trials[1]).splitlines()
    made: dict[str, Any] = {}
    exec("\n".join(lines[:-1]), made)
    assert isinstance(made["criterion"], kind)
    for name, value in {"balance": 4.0, **fixed}.items():
        assert getattr(made["criterion"], name) == value
    assert (made["batch_size"], made["learning_rate"]) == (64, 1e-3)


def test_names_do_not_end_the_snippet() -> None:
    study = study_of("infonce", learning_rate=1e-3, **{"a\n```\n<b>": 1, "my rate": "```\n<b>"})
    markdown = result_markdown(study)
    assert "learning_rate = 0.001\n" in markdown and "my rate" not in markdown
    assert "<b>" not in markdown and markdown.count("```") == 2


@pytest.mark.parametrize("objective", [None, "text", {"loss": "other", "space": {}}, {"loss": []}])
def test_a_study_of_something_else_has_no_snippet(objective: Any) -> None:
    study = optuna.create_study()
    study.set_user_attr("objective", objective)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    assert loss_snippet(study, study.trials[0]) == ""


def test_failures_are_counted_by_reason_the_most_frequent_first() -> None:
    study = study_of("infonce")
    for failure in ("OSError: a|b", *["KeyError: c"] * 12):
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"failure": failure}))
    rows = [line for line in result_markdown(study).splitlines() if line.startswith("| failed")]
    numbers = ", ".join(map(str, range(3, 13)))
    assert rows == [
        f"| failed | KeyError: c | 12 | {numbers} and 2 others |",
        r"| failed | OSError: a\|b | 1 | 2 |",
    ]


def test_a_study_without_a_value_says_so() -> None:
    assert "**No trial has a feasible value yet.**" in result_markdown(optuna.create_study())
