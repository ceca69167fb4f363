from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import create_trial
import pytest

from cbal_optuna.report import drawn
from cbal_optuna.report import terms


def study_of(*trials: tuple[float, Any], balances: tuple[float, ...] = (1.0, 4.0)) -> Study:
    """With values and what is stored as curves."""
    study = optuna.create_study(direction="maximize")
    for (value, curve), balance in zip(trials, balances):
        study.add_trial(
            create_trial(
                value=value,
                params={"balance": balance},
                distributions={"balance": FloatDistribution(0.1, 10)},
                user_attrs={} if curve is None else {"curve": curve},
            )
        )
    return study


CURVE = {"positive": [-0.1, -0.5], "entropy": [0.3, 0.1]}


def test_the_usual_and_the_best_trial_are_shown_with_their_balances() -> None:
    figure = terms(study_of((0.1, CURVE), (0.2, CURVE)))
    assert figure is not None
    shown = [(line.name, list(line.y)) for line in figure.data]
    assert shown == [
        ("usual (trial 0)", [-0.1, -0.5]),
        ("usual (trial 0)", [0.3, 0.1]),
        ("best (trial 1)", [-0.1, -0.5]),
        ("best (trial 1)", [1.2, 0.4]),
    ]
    assert [list(line.x) for line in figure.data] == [[25.0, 75.0]] * 4
    assert {line.line.dash for line in figure.data} == {"dash", "solid"}


def test_a_usual_trial_that_is_the_best_is_shown_once() -> None:
    figure = terms(study_of((0.2, CURVE), (0.1, CURVE)))
    assert figure is not None
    assert {line.name for line in figure.data} == {"usual and best (trial 0)"}


def test_a_balance_that_is_not_searched_is_that_of_the_objective() -> None:
    study = optuna.create_study(direction="maximize")
    study.set_user_attr("objective", {"space": {"balance": 3.0}})
    study.add_trial(create_trial(value=0.1, user_attrs={"curve": CURVE}))
    figure = terms(study)
    assert figure is not None
    assert list(figure.data[1].y) == pytest.approx([0.9, 0.3])


@pytest.mark.parametrize(
    "curve", [None, 3, [1, 2], {}, {"positive": []}, {"positive": "ab", "entropy": [None]}]
)
def test_a_study_that_has_no_curves_has_no_such_figure(curve: Any) -> None:
    study = study_of((0.1, curve), (0.2, curve))
    assert terms(study) is None
    assert "terms" not in {kind.name for kind, _ in drawn(study)}


def test_a_study_without_trials_has_no_such_figure() -> None:
    assert terms(study_of()) is None


def test_several_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="`study` has 2 objectives"):
        terms(optuna.create_study(directions=["maximize", "minimize"]))
