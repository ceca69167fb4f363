from __future__ import annotations

from collections.abc import Callable
import json
import math
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import TrialState
import plotly.graph_objects as go
import pytest

from cbal_optuna.report import history
from cbal_optuna.report import search_path
from cbal_optuna.report import slices


SPACE: dict[str, BaseDistribution] = {
    "temperature": FloatDistribution(0.01, 1, log=True),
    "balance": FloatDistribution(0.1, 10, log=True),
    "batch_size": CategoricalDistribution([32, 64, 128]),
}
START = {"temperature": 0.1, "balance": 1.0, "batch_size": 64}
FIGURES = [history, search_path, slices]


def study_of(direction: str = "maximize") -> Study:
    return optuna.create_study(direction=direction, study_name="s")


def add(
    study: Study,
    value: float | None,
    params: dict[str, Any] | None = None,
    space: dict[str, BaseDistribution] = SPACE,
    state: TrialState = TrialState.COMPLETE,
    **user_attrs: Any,
) -> None:
    params = START if params is None else params
    study.add_trial(
        create_trial(
            value=value,
            params=params,
            distributions={name: space[name] for name in params},
            state=state,
            user_attrs=user_attrs,
            # To Optuna 4 a trial without is infeasible as soon as another one is.
            system_attrs={"constraints": [1.0 if "infeasible" in user_attrs else -1.0]},
        )
    )


@pytest.fixture
def searched() -> Study:
    """Six trials: the usual setting, three more, an infeasible one, a failed one."""
    study = study_of()
    add(study, 0.2)
    add(study, 0.1, {**START, "balance": 0.3})
    add(study, 0.0, {**START, "balance": 10.0}, infeasible="diverged")
    add(study, 0.4, {**START, "balance": 3.0, "batch_size": 32})
    add(study, None, {**START, "temperature": 0.3}, state=TrialState.FAIL)
    add(study, 0.3, {**START, "balance": 3.0, "batch_size": 128})
    return study


def trace(figure: go.Figure, name: str) -> Any:
    (found,) = figure.select_traces({"name": name})
    return found


def notes(figure: go.Figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


def test_history_has_the_value_of_every_completed_trial(searched: Study) -> None:
    completed = trace(history(searched), "completed")
    assert completed.x == (0, 1, 3, 5)
    assert completed.y == (0.2, 0.1, 0.4, 0.3)


@pytest.mark.parametrize(
    "direction, expected", [("maximize", (2, 2, 3, 3)), ("minimize", (2, 1, 1, 0))]
)
def test_best_so_far_never_gets_worse(direction: str, expected: tuple[float, ...]) -> None:
    study = study_of(direction)
    for value in (2.0, 1.0, 3.0, 0.0):
        add(study, value)
    line = trace(history(study), "best so far")
    assert line.y == expected
    assert line.line.shape == "hv"


def test_the_usual_setting_is_a_dashed_line_over_all_trials(searched: Study) -> None:
    line = trace(history(searched), "usual setting (trial 0)")
    assert set(line.y) == {0.2}
    assert line.x[0] < 0 and line.x[1] > 5
    assert line.line.dash == "dash"


def test_history_ends_with_the_last_trial_that_has_begun(searched: Study) -> None:
    for _ in range(10):
        searched.enqueue_trial(START)
    assert history(searched).layout.xaxis.range == (-0.5, 5.5)


def test_there_is_no_usual_line_if_trial_0_is_infeasible() -> None:
    study = study_of()
    add(study, 0.0, infeasible="diverged")
    add(study, 0.3, {**START, "balance": 3.0})
    assert not [t.name for t in history(study).data if t.name.startswith("usual")]


def test_a_collapsed_trial_is_shown_with_its_value(searched: Study) -> None:
    add(searched, 0.05, collapsed="all the same")
    shown = trace(history(searched), "completed")
    assert shown.y[-1] == 0.05
    assert "trial 6: 0.05, collapsed" in shown.hovertext[-1]


def test_a_trial_that_ended_early_is_shown_with_its_value(searched: Study) -> None:
    add(searched, 0.05, trainings=1)
    assert "trial 6: 0.05, ended early" in trace(history(searched), "completed").hovertext[-1]


@pytest.mark.parametrize("figure_of", [history, search_path])
def test_trials_without_a_value_are_marked_by_what_became_of_them(
    figure_of: Callable[[Study], go.Figure], searched: Study
) -> None:
    add(searched, 0.2, state=TrialState.PRUNED)
    add(searched, math.inf)
    add(searched, None, state=TrialState.FAIL, interrupted="KeyboardInterrupt: ")
    add(searched, None, state=TrialState.RUNNING)
    figure = figure_of(searched)
    names = ["infeasible", "failed", "interrupted", "pruned", "not finite", "running"]
    marks = [trace(figure, name) for name in names]
    assert [len(mark.x) for mark in marks] == [1] * 6
    assert len({mark.marker.symbol for mark in marks}) == 6


def test_a_violated_constraint_makes_a_trial_infeasible() -> None:
    if not hasattr(optuna.Trial, "set_constraint"):
        pytest.skip("Optuna 4 has no constraints on trials")
    study = study_of()
    add(study, 0.2)

    def objective(trial: optuna.Trial) -> float:
        trial.set_constraint("memory", 1.0)
        return 0.9

    study.optimize(objective, n_trials=1)
    figure = history(study)
    assert trace(figure, "infeasible").x == (1,)
    assert trace(figure, "best so far").y == (0.2,)


def test_path_goes_over_balance_and_temperature_in_the_order_of_trials(searched: Study) -> None:
    figure = search_path(searched)
    path = trace(figure, "path")
    assert path.x == (1.0, 0.3, 3.0, 3.0)
    assert path.y == (0.1,) * 4
    assert path.mode == "lines"
    assert figure.layout.xaxis.title.text == "balance"
    assert figure.layout.yaxis.title.text == "temperature"


def test_path_has_log_axes_over_the_whole_range(searched: Study) -> None:
    axis = search_path(searched).layout.xaxis
    assert axis.type == "log"
    low, high = axis.range
    assert low < math.log10(0.1) and high > math.log10(10)
    assert set(axis.ticktext) >= {"0.1", "1", "10"}


def test_path_marks_start_and_best(searched: Study) -> None:
    figure = search_path(searched)
    assert trace(figure, "start").x == (1.0,)
    assert trace(figure, "best").x == (3.0,)


def test_the_size_of_a_mark_is_the_batch_size(searched: Study) -> None:
    figure = search_path(searched)
    at_64, _, at_32, at_128 = trace(figure, "completed").marker.size
    assert at_32 < at_64 < at_128
    legend = [t.name for t in figure.data if t.name.startswith("batch_size")]
    assert legend == ["batch_size 32", "batch_size 64", "batch_size 128"]


def test_of_many_batch_sizes_the_legend_shows_the_ends() -> None:
    space = {**SPACE, "batch_size": IntDistribution(8, 512, log=True)}
    study = study_of()
    for batch_size in range(10, 30):
        add(study, 0.1, {**START, "batch_size": batch_size}, space)
    legend = [t.name for t in search_path(study).data if t.name.startswith("batch_size")]
    assert legend == ["batch_size 10", "batch_size 29"]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_brightest_colour_is_the_best_value(direction: str) -> None:
    study = study_of(direction)
    for value in np.linspace(0, 1, 21):
        add(study, float(value))
    figure = search_path(study)
    assert trace(figure, "completed").marker.color[:2] == (0.0, 0.05)
    axis = figure.layout.coloraxis
    assert axis.reversescale == (direction == "minimize")
    expected = (0.1, 1.0) if direction == "maximize" else (0.0, 0.9)
    assert (axis.cmin, axis.cmax) == pytest.approx(expected)


def test_other_studies_have_a_path_over_their_first_two_numbers() -> None:
    space: dict[str, BaseDistribution] = {
        "kind": CategoricalDistribution(["a", "b"]),
        "depth": IntDistribution(1, 9),
        "width": CategoricalDistribution([1, 10, 100]),
    }
    study = study_of()
    add(study, 0.5, {"kind": "a", "depth": 2, "width": 10}, space)
    figure = search_path(study)
    assert trace(figure, "path").x == (2,)
    assert trace(figure, "path").y == (1,)
    assert figure.layout.xaxis.type == "linear"
    assert figure.layout.yaxis.ticktext == ("1", "10", "100")


@pytest.mark.parametrize("choices", [(3, 1, 2), (1, "2"), (False, True)])
def test_categories_that_are_no_increasing_numbers_are_no_axis_of_a_path(
    choices: tuple[Any, ...],
) -> None:
    space = {**SPACE, "x": CategoricalDistribution(choices)}
    study = study_of()
    add(study, 0.1, {"balance": 1.0, "x": choices[0]}, space)
    assert "two numeric hyper-parameters" in notes(search_path(study))[0]


def test_slices_have_a_panel_for_each_searched_parameter(searched: Study) -> None:
    fixed = {**SPACE, "learning_rate": FloatDistribution(0.1, 0.1)}
    add(searched, 0.3, {**START, "learning_rate": 0.1}, fixed)
    figure = slices(searched)
    titles = [axis.title.text for axis in figure.select_xaxes()]
    assert [t for t in titles if t] == ["temperature", "balance", "batch_size"]
    completed = list(figure.select_traces({"name": "completed"}))
    assert [len(panel.x) for panel in completed] == [5, 5, 5]
    assert completed[1].x == (1.0, 0.3, 3.0, 3.0, 1.0)
    best = list(figure.select_traces({"name": "best"}))
    assert [panel.x for panel in best] == [(0.1,), (3.0,), (0,)]
    assert {panel.y for panel in best} == {(0.4,)}


def test_slices_have_log_axes_and_categories_as_searched(searched: Study) -> None:
    temperature, _, batch_size = (a for a in slices(searched).select_xaxes() if a.title.text)
    assert temperature.type == "log"
    assert batch_size.ticktext == ("32", "64", "128")
    assert batch_size.tickvals == (0, 1, 2)


def test_categories_that_print_alike_are_kept_apart() -> None:
    space: dict[str, BaseDistribution] = {
        "x": CategoricalDistribution([1, "1", None, "None", True])
    }
    study = study_of()
    for value in ("1", 1, None, "None"):
        add(study, 0.0, {"x": value}, space)
    (completed,) = slices(study).select_traces({"name": "completed"})
    assert completed.x == (1, 0, 2, 3)


def test_a_conditional_parameter_shows_the_trials_that_have_it(searched: Study) -> None:
    space: dict[str, BaseDistribution] = {**SPACE, "margin": FloatDistribution(0, 0.8)}
    add(searched, 0.35, {"balance": 2.0, "margin": 0.4}, space)
    panels = list(slices(searched).select_traces({"name": "completed"}))
    assert [len(panel.x) for panel in panels] == [4, 5, 4, 1]
    assert len(trace(search_path(searched), "path").x) == 4


def test_a_changed_range_is_shown_whole() -> None:
    study = study_of()
    add(study, 0.1, {"x": 1.0}, {"x": FloatDistribution(0, 2)})
    add(study, 0.2, {"x": 8.0}, {"x": FloatDistribution(5, 9)})
    low, high = slices(study).layout.xaxis.range
    assert low < 0 and high > 9


@pytest.mark.parametrize("figure_of", FIGURES)
@pytest.mark.parametrize("state", [None, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING])
def test_without_a_value_a_figure_says_so(
    figure_of: Callable[[Study], go.Figure], state: TrialState | None
) -> None:
    study = study_of()
    if state is not None:
        add(study, None, state=state)
    figure = figure_of(study)
    assert notes(figure) == ["No trial has a value yet."] and not figure.data


def test_a_path_in_whose_plane_no_trial_has_a_value_says_so() -> None:
    study = study_of()
    add(study, 0.1, {"balance": 1.0})
    add(study, 0.1, {"temperature": 0.1})
    assert notes(search_path(study)) == ["No trial with balance and temperature has a value."]


def test_a_path_of_one_hyper_parameter_says_that_there_is_none() -> None:
    study = study_of()
    add(study, 0.1, {"balance": 1.0})
    assert "two numeric hyper-parameters" in notes(search_path(study))[0]


def test_slices_without_a_searched_hyper_parameter_say_so() -> None:
    study = study_of()
    add(study, 0.1, {})
    assert notes(slices(study)) == ["No hyper-parameter is searched."]


ODD_SPACES: dict[str, tuple[BaseDistribution, list[Any]]] = {
    "mixed categories": (CategoricalDistribution(["a", 1, 2.5, None, True]), ["a", None, True]),
    "log integers": (IntDistribution(1, 1024, log=True), [1, 37, 1024]),
    "stepped": (FloatDistribution(0, 1, step=0.25), [0.0, 0.25, 1.0]),
    "narrow log": (FloatDistribution(2, 3, log=True), [2.0, 2.5, 3.0]),
    "wide log": (FloatDistribution(1e-12, 1e12, log=True), [1e-12, 1.0, 1e12]),
    "fixed": (FloatDistribution(1, 1), [1.0, 1.0, 1.0]),
    "nan category": (CategoricalDistribution([math.nan, 1.0]), [math.nan, 1.0, 1.0]),
}


@pytest.mark.parametrize("figure_of", FIGURES)
@pytest.mark.parametrize("name", ODD_SPACES)
@pytest.mark.parametrize(
    "values", [(1.0, 1.0, 1.0), (1.0, math.inf, -math.inf), (1e300, 0.0, 1.0)]
)
def test_figures_of_any_space_and_values_can_be_written(
    figure_of: Callable[[Study], go.Figure], name: str, values: tuple[float, ...]
) -> None:
    distribution, positions = ODD_SPACES[name]
    space = {"x": distribution, "y": FloatDistribution(0, 1), "batch_size": distribution}
    study = study_of("minimize")
    for value, x in zip(values, positions):
        add(study, value, {"x": x, "y": 0.5, "batch_size": x}, space)
    written = json.loads(figure_of(study).to_json(), parse_constant=pytest.fail)
    # What is drawn, or why nothing is.
    assert any(trace.get("x") or trace.get("y") for trace in written["data"]) or any(
        note["text"] for note in written["layout"].get("annotations", ())
    )


@pytest.mark.parametrize("figure_of", FIGURES)
def test_a_single_trial_makes_a_figure(figure_of: Callable[[Study], go.Figure]) -> None:
    study = study_of()
    add(study, 0.2)
    assert not notes(figure_of(study))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("figure_of", FIGURES)
def test_text_of_the_study_is_no_markup(figure_of: Callable[[Study], go.Figure]) -> None:
    space: dict[str, BaseDistribution] = {
        "<b>x</b>": CategoricalDistribution(["<i>a</i>", "b"]),
        "balance": FloatDistribution(0, 1),
        "<a href='x'>": FloatDistribution(0, 1),
    }
    study = study_of()
    study.set_metric_names(["<sup>m</sup>"])
    add(study, 0.1, {"<b>x</b>": "<i>a</i>", "balance": 0.5, "<a href='x'>": 0.5}, space)
    texts = figure_of(study).to_json()
    for markup in ("<i>", "<a", "<sup>", "<b>x"):
        assert markup not in texts.replace("\\u003c", "<")
    assert "&lt;" in texts


def test_quotation_marks_stay_as_plotly_knows_no_entity_of_theirs() -> None:
    study = study_of()
    add(study, 0.1, {"\"x\" 'y' &": 0.5}, {"\"x\" 'y' &": FloatDistribution(0, 1)})
    assert slices(study).layout.xaxis.title.text == "\"x\" 'y' &amp;"


@pytest.mark.parametrize("figure_of", FIGURES)
def test_several_objectives_are_refused(figure_of: Callable[[Study], go.Figure]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match="`study` has 2 objectives"):
        figure_of(study)
