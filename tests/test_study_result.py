from __future__ import annotations

from collections.abc import Callable
import json
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import optuna
from optuna.storages import InMemoryStorage
import pytest
import yaml

from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study_result import StudyResult
from cbal_optuna.study_result import TrialResult
from cbal_optuna.summary import Expectation
from cbal_optuna.summary import NearOptimal
from cbal_optuna.summary import summarize


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(max_size=10)
CHOICES = st.none() | st.booleans() | st.integers() | NUMBERS | WORDS
TRIALS = st.builds(
    TrialResult,
    trial=st.integers(0),
    state=st.sampled_from(["COMPLETE", "FAIL"]),
    value=st.none() | st.floats(allow_nan=False),
    params=st.dictionaries(WORDS, CHOICES, max_size=3),
)
EXPECTATIONS = st.builds(Expectation, NUMBERS, NUMBERS, NUMBERS)
NEAR = st.builds(
    NearOptimal,
    name=WORDS,
    values=st.lists(CHOICES, max_size=3).map(tuple),
    bounded_below=st.booleans(),
    bounded_above=st.booleans(),
)
RESULTS = st.builds(
    StudyResult,
    study=WORDS,
    trials=st.integers(0),
    history=st.lists(TRIALS, max_size=3).map(tuple),
    usual=st.none() | TRIALS,
    best=st.none() | TRIALS,
    recommended=st.none() | TRIALS,
    expected=st.none() | EXPECTATIONS,
    usual_expected=st.none() | EXPECTATIONS,
    noise=st.none() | NUMBERS,
    noise_is_known=st.booleans(),
    tentative=st.booleans(),
    near_optimal=st.lists(NEAR, max_size=2).map(tuple),
    converged=st.booleans(),
    reason=WORDS,
    gain=st.none() | NUMBERS,
)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(result=RESULTS)
def test_a_result_comes_back_from_yaml_and_json(result: StudyResult) -> None:
    plain = result.to_dict()
    assert StudyResult.from_dict(json.loads(json.dumps(plain, allow_nan=False))) == result
    assert StudyResult.from_dict(yaml.safe_load(yaml.safe_dump(plain))) == result


def test_the_result_is_what_the_summary_says(
    tiny_objective: Callable[..., RetrievalObjective],
) -> None:
    objective = tiny_objective()
    study = open_study("tiny", InMemoryStorage(), objective, "cd", 0)
    run_trials(study, objective, 4)
    result, summary = StudyResult.of(study), summarize(study)
    assert result.recommended is not None
    assert result.recommended.params == summary.recommended.params
    assert (result.expected, result.near_optimal) == (summary.expected, summary.near_optimal)
    assert (result.trials, result.gain) == (4, summary.gain)
    assert [trial.value for trial in result.history] == [trial.value for trial in study.trials]
    assert StudyResult.from_dict(result.to_dict()) == result


def test_a_study_without_a_value_has_its_trials_only() -> None:
    result = StudyResult.of(optuna.create_study(study_name="empty"))
    assert (result.study, result.history, result.recommended) == ("empty", (), None)
    assert StudyResult.from_dict(result.to_dict()) == result


@pytest.mark.parametrize("damage", ["missing", "unknown", "kind", "inner"])
def test_what_is_no_result_is_one_sentence(damage: str) -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 2)
    plain: Any = StudyResult.of(study).to_dict()
    if damage == "missing":
        del plain["best"]
    if damage == "unknown":
        plain["colour"] = 1
    if damage == "kind":
        plain = [plain]
    if damage == "inner":
        plain["history"][0]["value"] = "high"
    with pytest.raises(ValueError, match="This is no result of a study"):
        StudyResult.from_dict(plain)
