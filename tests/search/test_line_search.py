"""The parabolic line search, driven by hand."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from cbal_optuna.search.line_search import MAX_EXPANSIONS
from cbal_optuna.search.line_search import MAX_REFINEMENTS
from cbal_optuna.search.line_search import parabolic


RESOLUTION = 0.01


def search(
    f: Callable[[float], float],
    *,
    step: float = 0.1,
    low: float = -0.5,
    high: float = 0.5,
    snap: Callable[[float], float] = lambda position: position,
) -> tuple[float, float, list[float]]:
    """The best position, its value, and the positions evaluated."""
    evaluated = []
    line = parabolic(f(0.0), step=step, low=low, high=high, resolution=RESOLUTION, snap=snap)
    try:
        position = next(line)
        while True:
            evaluated.append(position)
            position = line.send(f(position))
    except StopIteration as result:
        return *result.value, evaluated


def levels_of(positions: Sequence[float]) -> Callable[[float], float]:
    """The nearest of some positions, other than 0 if there is one on that side."""

    def snap(position: float) -> float:
        if position == 0.0:
            return 0.0
        nearest = min(positions, key=lambda level: abs(level - position))
        if nearest != 0.0:
            return nearest
        return min((p for p in positions if p * position > 0.0), key=abs, default=0.0)

    return snap


lines = st.fixed_dictionaries(
    {
        "step": st.floats(RESOLUTION, 1.0),
        "low": st.floats(-1.0, 0.0),
        "high": st.floats(0.0, 1.0),
    }
)


@st.composite
def responses(draw: st.DrawFn) -> Callable[[float], float]:
    """Rugged surfaces, with walls and plateaus."""
    heights = draw(st.lists(st.floats(-1e3, 1e3) | st.just(-math.inf), min_size=1, max_size=9))
    return lambda position: heights[math.floor((position + 1.0) / 2.0 * (len(heights) - 1e-9))]


@given(responses(), lines)
def test_the_result_is_the_best_of_what_was_evaluated(
    f: Callable[[float], float], line: dict[str, Any]
) -> None:
    best, value, evaluated = search(f, **line)

    assert best in [0.0, *evaluated]
    assert value == f(best) == max(map(f, [0.0, *evaluated]))


@given(responses(), lines)
def test_a_line_is_left_alone_unless_something_better_was_found(
    f: Callable[[float], float], line: dict[str, Any]
) -> None:
    best, value, _ = search(f, **line)

    assert best == 0.0 or value > f(0.0)


@given(responses(), lines)
def test_positions_are_on_the_line_and_told_apart(
    f: Callable[[float], float], line: dict[str, Any]
) -> None:
    _, _, evaluated = search(f, **line)

    assert all(line["low"] <= p <= line["high"] for p in evaluated)
    assert len({0.0, *evaluated}) == len(evaluated) + 1
    later = evaluated[2:]
    assert all(abs(p - q) >= RESOLUTION for p in later for q in evaluated if p != q)


@given(responses(), lines)
def test_a_line_costs_at_most_eight_evaluations(
    f: Callable[[float], float], line: dict[str, Any]
) -> None:
    _, _, evaluated = search(f, **line)

    assert len(evaluated) <= 2 + MAX_EXPANSIONS + MAX_REFINEMENTS == 8


@given(responses(), lines, st.sets(st.integers(-50, 50), min_size=1, max_size=8))
def test_levels_are_evaluated_once_at_most(
    f: Callable[[float], float], line: dict[str, Any], levels: set[int]
) -> None:
    positions = [k / 50 for k in {0, *levels}]
    line = {**line, "low": min(positions), "high": max(positions)}
    _, _, evaluated = search(f, **line, snap=levels_of(positions))

    assert set(evaluated) <= set(positions) - {0.0}
    assert len(set(evaluated)) == len(evaluated)


@given(responses(), lines, st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_of_the_values_does_not_matter(
    f: Callable[[float], float], line: dict[str, Any], unit: float
) -> None:
    assert search(lambda p: unit * f(p), **line)[2] == search(f, **line)[2]


@given(st.floats(-0.45, 0.45), st.floats(0.05, 0.3))
def test_a_parabola_is_solved(optimum: float, step: float) -> None:
    best, _, _ = search(lambda p: -((p - optimum) ** 2), step=step)

    assert best == pytest.approx(optimum, abs=2 * RESOLUTION)


def test_a_bracketed_parabola_takes_one_refinement() -> None:
    best, _, evaluated = search(lambda p: -((p - 0.04) ** 2), step=0.1)

    assert evaluated[:3] == pytest.approx([0.1, -0.1, 0.04])
    assert best == pytest.approx(0.04)


@pytest.mark.parametrize("low, high, first", [(-0.2, 0.8, 0.1), (-0.8, 0.2, -0.1)])
def test_the_roomier_side_is_probed_first(low: float, high: float, first: float) -> None:
    _, _, evaluated = search(lambda p: -abs(p), low=low, high=high)

    assert evaluated[:2] == [first, -first]


def test_the_other_side_is_not_probed_where_the_first_is_better() -> None:
    _, _, evaluated = search(lambda p: p)

    assert min(evaluated) > 0.0


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 0.0)])
def test_a_start_on_a_bound_is_probed_inwards_only(low: float, high: float) -> None:
    best, _, evaluated = search(lambda p: -abs(p), low=low, high=high)

    assert best == 0.0
    assert all(p * (low + high) > 0.0 for p in evaluated)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_an_optimum_on_a_bound_is_reached(sign: float) -> None:
    best, _, _ = search(lambda p: sign * p, low=-0.5, high=0.5)

    assert best == sign * 0.5


def test_steps_grow_while_they_improve() -> None:
    _, _, evaluated = search(lambda p: p, step=0.02, low=-0.5, high=0.5)

    gaps = [b - a for a, b in zip([0.0, *evaluated], evaluated[: 1 + MAX_EXPANSIONS])]
    assert [b / a for a, b in zip(gaps, gaps[1:])] == pytest.approx([1.8] * MAX_EXPANSIONS)


@pytest.mark.parametrize("wall", [0.02, 0.06, 0.15])
def test_a_wall_turns_the_search_back(wall: float) -> None:
    best, value, evaluated = search(lambda p: p if p < wall else -math.inf, step=0.1)

    assert 0.0 <= best < wall and value == best
    assert max(evaluated) >= wall


def test_a_line_without_any_usable_point_is_probed_twice_and_left() -> None:
    best, value, evaluated = search(lambda p: -math.inf)

    assert (best, value, len(evaluated)) == (0.0, -math.inf, 2)


def test_a_start_in_the_wall_is_left_for_any_usable_point() -> None:
    best, value, _ = search(lambda p: -p if p > 0.05 else -math.inf)

    assert best > 0.05 and math.isfinite(value)


def test_an_infinitely_good_value_is_kept() -> None:
    best, value, _ = search(lambda p: math.inf if p > 0.05 else p)

    assert best > 0.05 and value == math.inf


def test_a_line_without_room_costs_nothing() -> None:
    assert search(lambda p: p, low=0.0, high=0.0) == (0.0, 0.0, [])


def test_a_plateau_keeps_the_start() -> None:
    assert search(lambda p: 1.0)[:2] == (0.0, 1.0)
