from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cbal_optuna.comparison import SamplerComparison
from cbal_optuna.report import best_so_far
from cbal_optuna.report import comparison_text
from cbal_optuna.report import write_comparison
from cbal_optuna.report.comparison import by_seconds


def comparison_of(first: str = "cd", second: str = "tpe") -> SamplerComparison:
    rows = []
    for seed in (0, 1, 2):
        for sampler, gain in (first, 0.1), (second, 0.05):
            for trial in range(1, 6):
                best = 0.5 + gain * trial + 0.01 * seed
                seconds = 2.0 * trial + seed
                rows.append((sampler, seed, trial, best, best, seconds))
    columns = ["sampler", "seed", "trial", "value", "best", "seconds"]
    return SamplerComparison(pd.DataFrame(rows, columns=columns), maximizes=True)


def test_the_lines_are_medians_over_seeds() -> None:
    lines = {t.name: t for t in best_so_far(comparison_of()).data if t.name and t.xaxis == "x"}
    assert lines["cd"].y == pytest.approx([0.61, 0.71, 0.81, 0.91, 1.01])


def test_against_seconds_a_search_has_what_it_had_by_then() -> None:
    seconds, values = by_seconds(comparison_of())
    # From the first value of the last search on, until the first search ends.
    assert (seconds[0], seconds[-1]) == (4.0, 10.0)
    assert values["cd"].shape == (3, len(seconds))
    assert np.allclose(values["cd"][:, 0], [0.7, 0.61, 0.62])


def test_the_text_says_how_far_the_others_are_behind() -> None:
    text = comparison_text(comparison_of())
    assert "behind after 5" in text and "0.2500" in text
    assert "over 5" in text and "0 of 3" in text


def test_the_tables_come_back_from_their_files(tmp_path: Path) -> None:
    comparison = comparison_of()
    write_comparison(tmp_path, comparison, "tiny")
    assert SamplerComparison(pd.read_csv(tmp_path / "trials.csv"), maximizes=True).seeds == [
        0,
        1,
        2,
    ]
    table = pd.read_csv(tmp_path / "table.csv", index_col="sampler")
    assert table.loc["tpe", "behind"] == pytest.approx(0.25)


def test_names_are_escaped(tmp_path: Path) -> None:
    write_comparison(tmp_path, comparison_of("<b>cd</b>"), "<i>tiny</i>")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<b>cd" not in page and "<i>tiny" not in page
