from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
import math
from pathlib import Path
import re
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import distribution_to_json
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.study import StudyDirection
from optuna.trial import create_trial
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs
import pytest

from cbal_optuna import CoordinateDescentSampler
from cbal_optuna import summarize
from cbal_optuna.report import result_text
from cbal_optuna.report import write_report
from cbal_optuna.report.words import label
from cbal_optuna.report.words import near_values
from cbal_optuna.report.words import search_result
from cbal_optuna.report.words import verdict
from cbal_optuna.retraining import SettingComparison
from cbal_optuna.summary import NearOptimal


ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
PLOTLY = get_plotlyjs()
SPACE: dict[str, BaseDistribution] = {
    "balance": FloatDistribution(0.1, 10, log=True),
    "temperature": FloatDistribution(0.01, 1, log=True),
    "batch_size": CategoricalDistribution([32, 64, 128]),
}
START = {"balance": 1.0, "temperature": 0.1, "batch_size": 64}


def add(
    study: Study,
    value: float | None,
    params: dict[str, Any] | None = None,
    state: TrialState = TrialState.COMPLETE,
    **user_attrs: Any,
) -> None:
    params = START if params is None else params
    distributions = {
        name: SPACE.get(name, CategoricalDistribution([x, "other"])) for name, x in params.items()
    }
    study.add_trial(
        create_trial(
            value=value,
            params=params,
            distributions=distributions,
            state=state,
            user_attrs=user_attrs,
            # To Optuna 4 a trial without is infeasible as soon as another one is.
            system_attrs={"constraints": [1.0 if "infeasible" in user_attrs else -1.0]},
        )
    )


def study_of(*values: float, direction: str = "maximize", name: str = "a study") -> Study:
    """One trial for each value, each with twice the balance of the one before."""
    study = optuna.create_study(direction=direction, study_name=name)
    for i, value in enumerate(values):
        add(study, value, {**START, "balance": 2.0**i})
    return study


def comparison(*differences: float, part: str = "validation") -> SettingComparison:
    usual = np.linspace(0.2, 0.21, len(differences))
    best = usual + np.array(differences)
    seeds = tuple(range(1000, 1000 + len(differences)))
    return SettingComparison(
        part, seeds, {"map_at_r": usual, "nmi": usual}, {"map_at_r": best, "nmi": best}
    )


class Page(HTMLParser):
    """A report, read back."""

    def __init__(self, path: Path, study: Study, *comparisons: SettingComparison) -> None:
        super().__init__()
        write_report(path, study, comparisons)
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts.append(data)
        elif self._open in ("td", "th", "button"):
            self.tables[-1][-1][-1] += data
        elif self._open != "style":
            self.text += data

    def table(self, corner: str) -> list[list[str]]:
        (found,) = (t for t in self.tables if corner in t[0])
        return found

    @property
    def headline(self) -> str:
        found = re.search(r'<p class="headline">(.*?)</p>', self.source)
        assert found is not None
        return found[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def test_the_page_loads_nothing(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.3))
    assert not [
        attrs for _, attrs in page.tags if {"src", "href", "srcset", "data"} & attrs.keys()
    ]
    assert "link" not in {tag for tag, _ in page.tags}
    policy = {"http-equiv": "Content-Security-Policy"}.items()
    (allowed,) = (a["content"] for tag, a in page.tags if tag == "meta" and policy <= a.items())
    assert allowed is not None and allowed.startswith("default-src 'none'")
    own = page.source.replace(PLOTLY, "")
    assert not re.search(r"https?:|@import|url\(", own)


def test_plotly_is_embedded_once(path: Path) -> None:
    assert Page(path, study_of(0.2, 0.3)).source.count(PLOTLY) == 1


def test_the_page_has_four_figures(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.3))
    plots = [s for s in page.scripts if "Plotly.newPlot(" in s and s != PLOTLY]
    assert len(plots) == 4


@pytest.mark.parametrize("place", ["study name", "name", "value", "failure", "attribute", "study"])
def test_text_of_the_study_stays_text(path: Path, place: str) -> None:
    plain = Page(path, study_of(0.2, 0.3, 0.1))
    study = study_of(0.2, 0.3, name=ATTACK if place == "study name" else "a study")
    params = {
        **START,
        **{"name": {ATTACK: 2.0}, "value": {"batch_size": 64, "kind": ATTACK}}.get(place, {}),
    }
    attrs = {"failure": {"failure": ATTACK}, "attribute": {ATTACK: ATTACK}}.get(place, {})
    add(study, 0.4, params, **attrs)
    if place == "study":
        study.set_user_attr(ATTACK, {ATTACK: [ATTACK]})
    page = Page(path, study)
    # The parser sees the tags that a browser would see.
    assert "img" not in {tag for tag, _ in page.tags}
    assert sum(t == "script" for t, _ in page.tags) == sum(t == "script" for t, _ in plain.tags)
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert ATTACK in page.text or any(ATTACK in cell for t in page.tables for r in t for cell in r)


def test_a_difference_whose_interval_keeps_clear_of_zero_is_the_headline(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.3), comparison(0.03, 0.031, 0.029))
    assert page.headline == (
        "The best setting is better than the usual one on validation classes: MAP@R changes by "
        "+0.0300 (+14.6%), 95 % interval +0.0275 to +0.0325, 3 fresh seeds."
    )


def test_where_the_usual_setting_is_the_best_its_result_is_the_headline(path: Path) -> None:
    page = Page(path, study_of(0.2), comparison(0.0, 0.0))
    assert page.headline.startswith("The usual setting is the best one found: MAP@R")


@pytest.mark.parametrize(
    "differences, word",
    [((0.03, -0.02, 0.01), "may be noise"), ((0.1,), "gives no interval")],
)
def test_no_gain_is_shown_if_the_interval_contains_zero(
    path: Path, differences: tuple[float, ...], word: str
) -> None:
    page = Page(path, study_of(0.2, 0.3), comparison(*differences))
    assert page.headline.startswith("No gain is shown on validation classes")
    assert word in page.headline
    assert "is better than the usual one on" not in page.text


def test_a_loss_is_called_one(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.3), comparison(-0.03, -0.031, -0.029))
    assert page.headline.startswith("The best setting is worse than the usual one")


def test_test_classes_have_the_headline(path: Path) -> None:
    validation = comparison(0.03, 0.031, 0.029)
    page = Page(path, study_of(0.2, 0.3), validation, comparison(0.03, -0.03, part="test"))
    assert page.headline.startswith("No gain is shown on test classes")
    assert page.text.index("on test classes") < page.text.index("better than the usual one on")


NOISE = "tells gain from luck"


def test_few_trials_with_repeats_are_said_to_be_too_few_but_their_noise_is_known(
    path: Path,
) -> None:
    study = optuna.create_study(direction="maximize", study_name="a study")
    for i, noise in enumerate(np.random.default_rng(0).normal(0.0, 0.002, (4, 4))):
        values = (0.2 + 0.01 * i + noise).tolist()
        add(study, sum(values) / 4, {**START, "balance": 2.0**i}, values=values)
    page = Page(path, study)

    assert "These trials are too few, or too noisy, to tell." in page.text
    assert re.search(r"luck included; one trial is off by about 0\.00[01]", page.text)


def test_few_trials_are_said_to_show_no_more_than_noise(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.1, 0.3))
    assert re.fullmatch(
        r"According to all trials together, the recommended setting \(that of trial 2\) is "
        r"(4\d|50)(\.\d)? % better than the usual one, which may be noise\.",
        page.headline,
    )
    assert "These trials do not tell how noisy they are." in page.text
    assert "The best single trial has 0.3 (trial 2), luck included." in page.text
    assert NOISE in page.text
    # No interval, and no noise: the model cannot know them yet.
    assert "interval" not in page.text and "is off by about" not in page.text


@pytest.mark.parametrize(
    "sampler",
    [CoordinateDescentSampler(x0=START, seed=0), RandomSampler(seed=0)],
    ids=["cd", "random"],
)
def test_noise_alone_is_never_sold_as_gain(sampler: BaseSampler) -> None:
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    n_claims = 0
    for n_trials in range(1, 25):
        study.tell(study.ask(SPACE), 0.2 + 0.01 * rng.standard_normal())
        if n_trials not in (1, 2, 3, 5, 10, 15, 16, 20, 24):
            continue
        text = result_text(study)
        if "% better than" not in text:
            assert "No setting is expected to be better than the usual one" in text
            continue
        n_claims += 1
        assert "better than the usual one, which may be noise." in text or (
            "as far as a model of the trials can tell gain from noise." in text and n_trials >= 16
        )
        assert NOISE in text
    assert n_claims


def hilly_study(noise: float, direction: str = "maximize") -> Study:
    """Twenty-four trials; the usual setting is far from the optimum."""
    rng = np.random.default_rng(0)
    sign = 1.0 if direction == "maximize" else -1.0
    study = study_of(direction=direction)
    for i in range(24):
        balance = 0.2 if i == 0 else float(10.0 ** rng.uniform(-0.9, 0.9))
        params = {**START, "balance": balance, "batch_size": (32, 64, 128)[i % 3]}
        value = 1.0 - math.log10(balance / 3.0) ** 2 - 0.1 * (params["batch_size"] != 64)
        add(study, sign * (value + noise * rng.standard_normal()), params)
    return study


def test_a_gain_beyond_the_noise_is_not_called_noise(path: Path) -> None:
    page = Page(path, hilly_study(0.005))
    assert "better than the usual one, as far as a model" in page.headline
    assert "may be noise" not in page.text and "overlap" not in page.text
    assert "; one trial is off by about 0.0" in page.text
    assert NOISE in page.text


def test_what_is_expected_stands_in_the_table_with_its_interval(path: Path) -> None:
    study = hilly_study(0.005)
    (row,) = (r for r in Page(path, study).table("searched") if r[0].startswith("expected"))
    number = r"-?\d\.?\d*"
    assert row[0] == "expected (95 % interval)"
    assert all(re.fullmatch(rf"{number} \({number} to {number}\)", cell) for cell in row[1:3])
    expected = summarize(study).expected
    assert expected is not None and float(row[2].split()[0]) == pytest.approx(expected.value, 1e-3)


def test_a_gain_within_the_noise_is_called_noise(path: Path) -> None:
    study = study_of()
    rng = np.random.default_rng(0)
    for balance in np.geomspace(0.15, 9.0, 24):
        add(study, 0.2 + 0.01 * rng.standard_normal(), {**START, "balance": float(balance)})
    page = Page(path, study)
    assert page.headline.endswith("better than the usual one, which may be noise.")
    assert "These trials do not tell how noisy they are." in page.text


def test_a_gain_whose_intervals_overlap_is_called_noise() -> None:
    summary = summarize(hilly_study(0.005))
    assert summary.expected is not None
    almost = replace(summary.expected, value=0.999 * summary.expected.value)
    summary = replace(summary, usual_expected=almost)
    head, *others = search_result(summary, StudyDirection.MAXIMIZE, confirmed=False)
    assert head.endswith("which may be noise.")
    assert "These intervals overlap." in others


def test_fresh_seeds_are_not_asked_for_where_there_are_some(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.3), comparison(0.03, 0.031, 0.029))
    assert NOISE not in page.text


@pytest.mark.parametrize("has_model", [True, False])
def test_a_recommended_trial_that_has_collapsed_is_said_to_have(has_model: bool) -> None:
    summary = summarize(hilly_study(0.005))
    if not has_model:
        summary = replace(summary, expected=None)

    def sentences() -> list[str]:
        return search_result(summary, StudyDirection.MAXIMIZE, confirmed=False)

    said = f"The embeddings of trial {summary.recommended.number} have collapsed"
    assert not any(sentence.startswith(said) for sentence in sentences())
    summary.recommended.user_attrs["collapsed"] = "the embeddings lie in next to one direction"
    assert any(sentence.startswith(said) for sentence in sentences())


def test_lower_is_better_in_a_study_to_be_minimised(path: Path) -> None:
    page = Page(path, study_of(0.4, 0.3, 0.5, direction="minimize"))
    assert re.search(r"trial 1\) is 2[45](\.\d)? % better than the usual one", page.headline)
    assert "Lower values are better." in page.text
    assert "Lower values" not in Page(path, study_of(0.4, 0.3)).text


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_a_study_to_be_minimised_expects_has_the_sign_of_its_values(
    path: Path, direction: str
) -> None:
    sign = 1.0 if direction == "maximize" else -1.0
    rows = Page(path, hilly_study(0.005, direction)).table("searched")
    (row,) = (r for r in rows if r[0].startswith("expected"))
    value, low, high = (float(x) for x in re.findall(r"-?[\d.]+", row[2]))
    assert low <= value <= high
    assert value == pytest.approx(sign, abs=0.05)


def test_no_gain_is_claimed_if_the_usual_setting_is_the_best(path: Path) -> None:
    page = Page(path, study_of(0.3, 0.2))
    assert page.headline == "No setting is expected to be better than the usual one (trial 0)."
    assert "It is expected to have 0." in page.text
    assert NOISE not in page.text and "% better" not in page.text


def test_no_gain_is_claimed_over_an_infeasible_usual_setting(path: Path) -> None:
    study = study_of()
    add(study, 0.01, infeasible="diverged")
    add(study, 0.3, {**START, "balance": 2.0})
    page = Page(path, study)
    assert page.headline == "Recommended is the setting of trial 1."
    assert "has no value to compare it with" in page.text
    assert "better than" not in page.text


def test_infeasible_trials_are_never_recommended(path: Path) -> None:
    study = study_of(0.2, 0.3)
    add(study, 9.0, {**START, "balance": 8.0}, infeasible="cheated")
    page = Page(path, study)
    assert "recommended (trial 1)" in page.table("searched")[0]
    assert "(that of trial 1)" in page.headline


def test_no_gain_is_claimed_for_another_trial_of_the_usual_setting(path: Path) -> None:
    study = study_of()
    add(study, 0.2, {**START, "balance": 1.0})
    add(study, 0.3, {**START, "balance": 1.0})
    add(study, 0.1, {**START, "balance": 4.0})
    page = Page(path, study)
    assert page.headline == "No setting is expected to be better than the usual one (trial 0)."


def test_conditional_hyper_parameters_are_no_gain_by_themselves(path: Path) -> None:
    study = study_of()
    for value, params in (
        (0.2, {"balance": 1.0, "temperature": 0.1}),
        (0.3, {"balance": 1.0, "batch_size": 64}),
        (0.1, {"balance": 4.0, "batch_size": 64}),
    ):
        add(study, value, params)
    page = Page(path, study)
    assert page.headline == "No setting is expected to be better than the usual one (trial 0)."
    assert page.table("searched")[0][2] == "recommended (trial 1)"


def test_a_usual_value_of_zero_has_no_percentage(path: Path) -> None:
    study = study_of(0.0, 0.0, 0.0)
    add(study, 0.5, {**START, "balance": 9.0})
    headline = Page(path, study).headline
    assert "better than the usual one" in headline and "inf" not in headline


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_trials_that_have_nothing_in_common_have_a_page(path: Path, direction: str) -> None:
    study = study_of(direction=direction)
    add(study, 0.2, {"balance": 1.0})
    add(study, 0.2, {"temperature": 0.1})
    page = Page(path, study)
    assert page.headline == "The best trial has 0.2."
    assert "The trials have no hyper-parameters in common." in page.text
    assert ("Lower values are better." in page.text) is (direction == "minimize")
    assert "How precisely" not in page.source


def test_whether_to_search_on_is_said_with_the_reason(path: Path) -> None:
    few = Page(path, study_of(0.2, 0.3))
    assert "To tell, 16 settings are needed; 2 have been tried." in few.text
    study = study_of()
    for batch_size in (32, 64, 128):
        add(study, batch_size / 100, {"batch_size": batch_size})
    assert "All settings have been tried." in Page(path, study).text


def test_metrics_of_both_settings_have_their_intervals(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.3), comparison(0.03, 0.03, 0.03))
    rows = page.table("best less usual")
    assert rows[1] == [
        "MAP@R",
        "0.2050\xa0±\xa00.0124",
        "0.2350\xa0±\xa00.0124",
        "0.0300\xa0±\xa00.0000",
    ]
    assert [row[0] for row in rows[1:]] == ["MAP@R", "NMI"]


def test_one_seed_has_no_interval(path: Path) -> None:
    rows = Page(path, study_of(0.2, 0.3), comparison(0.03)).table("best less usual")
    assert rows[1] == ["MAP@R", "0.2000", "0.2300", "0.0300"]


def test_the_recommended_setting_stands_beside_the_usual_one_and_as_a_dict(path: Path) -> None:
    page = Page(path, study_of(0.2, 0.3))
    header, *rows, expected = page.table("searched")
    assert header == ["", "usual (trial 0)", "recommended (trial 1)", "searched"]
    assert rows == [
        ["balance", "1", "2", "0.1 to 10, log"],
        ["temperature", "0.1", "0.1", "0.01 to 1, log"],
        ["batch_size", "64", "64", "32, 64, 128"],
        ["value", "0.2", "0.3", ""],
    ]
    assert expected[0] == "expected"
    assert float(expected[1]) == pytest.approx(0.2, abs=0.03)
    assert float(expected[2]) == pytest.approx(0.3, abs=0.03)
    assert "{'balance': 2.0, 'temperature': 0.1, 'batch_size': 64}" in page.text


def test_near_optimal_values_are_in_a_table(path: Path) -> None:
    header, balance, batch_size, _ = Page(path, hilly_study(0.0)).table("expected within 1 %")
    assert header == ["", "recommended", "expected within 1 %"]
    low, high = map(float, balance[2].split(" to "))
    assert 2.0 < low < 3.0 < high < 4.5
    assert batch_size == ["batch_size", "64", "64"]


@pytest.mark.parametrize(
    ("name", "values", "bounded", "words"),
    [
        ("balance", (0.5, 2.0), (True, True), "0.5 to 2"),
        (
            *("balance", (0.1, 10.0), (False, False)),
            "0.1 to 10, the lower and the upper ends of the range",
        ),
        ("balance", (10.0, 10.0), (True, False), "10, the upper end of the range"),
        ("batch_size", (64,), (True, True), "64"),
        ("batch_size", (64, 128), (True, False), "64, 128, the upper end of the range"),
    ],
)
def test_near_optimal_values_are_said_with_the_ends_that_they_reach(
    name: str, values: tuple[float, ...], bounded: tuple[bool, bool], words: str
) -> None:
    assert near_values(NearOptimal(name, values, *bounded), SPACE[name]) == words


@pytest.mark.parametrize(("optimum", "end"), [(0.1, "lower"), (10.0, "upper")])
def test_a_near_optimal_value_at_the_end_of_its_range_is_said_to_be(
    path: Path, optimum: float, end: str
) -> None:
    study = study_of()
    for balance in np.geomspace(0.1, 10.0, 9):
        value = 1.0 - math.log10(balance / optimum) ** 2
        add(study, value, {"balance": float(balance)})
    cell = Page(path, study).table("expected within 1 %")[1][2]
    assert cell.endswith(f", the {end} end of the range")
    assert label(optimum) in cell.split(",")[0].split(" to ")


def test_a_recommended_category_at_the_end_of_its_range_is_said_to_be(path: Path) -> None:
    study = study_of()
    for value, batch_size in (0.1, 32), (0.2, 64), (0.3, 128), (0.3, 128):
        add(study, value, {"batch_size": batch_size})
    row = Page(path, study).table("expected within 1 %")[1]
    assert row == ["batch_size", "128", "128, the upper end of the range"]


def test_the_table_has_a_row_for_each_trial_and_reasons(path: Path) -> None:
    study = study_of(0.2, 0.3)
    add(study, 0.0, infeasible="out of memory: 80 GiB")
    add(study, None, state=TrialState.FAIL, failure="OSError: disk full")
    add(study, None, state=TrialState.FAIL, interrupted="Interrupted: SIGTERM")
    add(study, None, {}, state=TrialState.RUNNING)
    page = Page(path, study)
    header, *rows = page.table("outcome")
    assert header == [
        "trial", "outcome", "value", "balance", "temperature", "batch_size", "duration", "reason"
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [row[1] for row in rows] == [
        "completed",
        "completed",
        "infeasible",
        "failed",
        "interrupted",
        "running",
    ]
    assert [row[-1] for row in rows] == [
        "",
        "",
        "out of memory: 80 GiB",
        "OSError: disk full",
        "Interrupted: SIGTERM",
        "",
    ]
    counts = "2 completed, 1 infeasible, 1 failed, 1 interrupted, 1 running"
    assert f"6 trials: {counts}." in page.text


def test_a_collapsed_trial_is_called_one_and_keeps_its_value(path: Path) -> None:
    study = study_of(0.2, 0.3)
    add(study, 0.1, collapsed="all the same", effective_rank=1.0)
    page = Page(path, study)
    assert page.table("outcome")[3] == [
        "2", "collapsed", "0.1", "1", "0.1", "64", "1", page.table("outcome")[3][-2],
        "all the same",
    ]  # fmt: skip
    assert "3 trials: 2 completed, 1 collapsed." in page.text


def test_a_collapse_on_fresh_seeds_is_said_beside_the_gain(path: Path) -> None:
    compared = replace(comparison(0.05, 0.05, 0.06), collapsed=(0, 2))
    assert Page(path, study_of(0.2, 0.3), compared).headline.endswith(
        "3 fresh seeds. Trainings whose embeddings have collapsed: 2 of 3 with the best setting."
    )
    compared = replace(compared, collapsed=(3, 1))
    assert "collapsed: 3 of 3 with the usual setting, 1 of 3 with the best setting." in verdict(
        compared
    )


def test_images_that_are_held_out_are_called_images(path: Path) -> None:
    accuracy = {"knn_accuracy": np.array([0.4, 0.41]), "linear_accuracy": np.array([0.5, 0.5])}
    better = {name: values + 0.1 for name, values in accuracy.items()}
    compared = SettingComparison("test", (2000, 2001), accuracy, better, held_out="images")
    page = Page(path, study_of(0.2, 0.3), compared)
    assert page.headline.startswith(
        "The best setting is better than the usual one on test images: kNN accuracy changes by "
        "+0.1000"
    )
    assert "Trained again, test images" in page.text
    assert page.table("best less usual")[2][0] == "Linear probe accuracy"


def test_every_column_of_the_trials_can_be_sorted_by_plain_numbers(path: Path) -> None:
    page = Page(path, study_of(0.2, 1 / 3))
    buttons = [tag for tag, _ in page.tags if tag == "button"]
    assert len(buttons) == len(page.table("outcome")[0])
    keys = [attrs["data-sort"] for tag, attrs in page.tags if "data-sort" in attrs]
    assert repr(1 / 3) in keys
    assert all(math.isfinite(float(key)) for key in keys if key is not None)


def test_attributes_of_trials_are_columns_if_they_are_plain(path: Path) -> None:
    study = study_of(0.2)
    add(study, 0.3, recall_at_1=0.51234, step="balance", versions={"torch": "2"}, values=[0.3])
    header, first, second = Page(path, study).table("outcome")
    assert header[6:8] == ["recall_at_1", "step"]
    assert first[6:8] == ["", ""]
    assert second[6:8] == ["0.5123", "balance"]


def test_the_study_is_described_with_its_ranges_in_words(path: Path) -> None:
    study = study_of(0.2)
    balance = distribution_to_json(SPACE["balance"])
    study.set_user_attr("objective", {"dataset": "cub200", "space": {"balance": balance}})
    study.set_user_attr("layers", distribution_to_json(IntDistribution(1, 4)))
    study.set_user_attr("width", distribution_to_json(IntDistribution(8, 64, step=8)))
    study.set_user_attr("note", "{not JSON")
    assert Page(path, study).table("attribute")[1:] == [
        ["objective.dataset", "cub200"],
        ["objective.space.balance", "0.1 to 10, log"],
        ["layers", "1 to 4"],
        ["width", "8 to 64, step 8"],
        ["note", "{not JSON"],
    ]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(
    "states", [[], [TrialState.FAIL], [TrialState.RUNNING, TrialState.WAITING]]
)
def test_a_study_without_a_value_makes_a_page(
    path: Path, states: list[TrialState], direction: str
) -> None:
    study = study_of(direction=direction)
    for state in states:
        add(study, None, state=state)
    page = Page(path, study)
    assert page.headline == "No trial has a feasible value yet."
    assert len(page.table("outcome")) == 1 + len(states)


@pytest.mark.parametrize("values", [(0.2,), (0.0, 0.0), (-1.0, 1.0), (0.2, -math.inf)])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_studies_of_few_or_odd_values_make_a_page(
    path: Path, values: tuple[float, ...], direction: str
) -> None:
    assert Page(path, study_of(*values, direction=direction)).headline


def test_a_study_under_way_makes_a_page(path: Path) -> None:
    study = study_of()

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        page = Page(path, study)
        assert "1 running" in page.text
        return value

    study.optimize(objective, n_trials=3)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 3


def test_a_failed_report_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, study_of(0.2))
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_several_objectives_are_refused_and_leave_the_old_report(path: Path) -> None:
    path.write_text("old")
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match="`study` has 2 objectives"):
        write_report(path, study)
    assert path.read_text() == "old"


def test_text_that_is_no_unicode_is_written(path: Path) -> None:
    study = study_of(0.2)
    add(study, None, state=TrialState.FAIL, failure="cannot open caf\udce9.jpg")
    assert "cannot open caf" in Page(path, study).table("outcome")[2][-1]
