"""Coordinate descent on a model: its first cycle, its lines and its batches."""

from __future__ import annotations

from collections.abc import Callable
import itertools
import math
import re

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
import pytest

from cbal_optuna.search import most_promising
from cbal_optuna.search import next_point
from cbal_optuna.search import Point
from cbal_optuna.search import Proposal
from cbal_optuna.search import Response
from cbal_optuna.search import Space
from cbal_optuna.search.surrogate_descent import _lines

from .problems import BALANCE_SPACE
from .problems import hill
from .problems import history_of
from .problems import options_for
from .problems import points
from .problems import proposals
from .problems import ridge
from .problems import search
from .problems import UNIT_SQUARE


LOGS = Space.of(
    {
        "balance": FloatDistribution(0.1, 10.0, log=True),
        "margin": FloatDistribution(0.0, 1.0, step=0.5),
        "temperature": FloatDistribution(0.01, 5.0, log=True),
        "loss": CategoricalDistribution("abc"),
    }
)


def flat(point: Point) -> float:
    return 0.0


def moved(proposal: Proposal) -> list[int]:
    """The axes on which a proposal differs from its origin."""
    assert proposal.origin is not None
    return [j for j, (p, q) in enumerate(zip(proposal.point, proposal.origin)) if p != q]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_first_cycle_takes_a_step_on_each_axis_in_the_order_given(
    order: tuple[int, ...],
) -> None:
    options = options_for(BALANCE_SPACE, order=order)
    asked = proposals(BALANCE_SPACE, flat, 4, options)

    assert (asked[0].point, asked[0].line) == (options.start, "start")
    assert [moved(p) for p in asked[1:]] == [[j] for j in order]
    assert [p.line for p in asked[1:]] == [BALANCE_SPACE.names[j] for j in order]
    assert {p.origin for p in asked[1:]} == {options.start}


@pytest.mark.parametrize("start", [(0.1, 0.2), (0.9, 0.2), (0.5, 0.7)])
@pytest.mark.parametrize("initial_step", [0.1, 0.25])
def test_the_first_step_is_the_one_given_to_the_roomier_side(
    start: Point, initial_step: float
) -> None:
    asked = proposals(
        UNIT_SQUARE, flat, 3, options_for(UNIT_SQUARE, start, initial_step=initial_step)
    )
    steps = [p.point[j] - start[j] for j, p in enumerate(asked[1:])]

    assert steps == pytest.approx([math.copysign(initial_step, 0.5 - x) for x in start])


def test_a_step_that_helps_is_followed_by_a_second_one_from_there() -> None:
    start = (0.2, 0.3)
    asked = proposals(UNIT_SQUARE, lambda p: p[0], 4, options_for(UNIT_SQUARE, start))

    assert [p.line for p in asked] == ["start", "x", "x", "y"]
    first, second, third = (p.point for p in asked[1:])
    assert start[0] < first[0] < second[0]
    assert asked[2].origin == first and asked[3].origin == second
    assert first[1] == second[1] == start[1] and third[0] == second[0]


def test_a_step_that_does_not_help_is_not_followed_by_another() -> None:
    asked = proposals(UNIT_SQUARE, lambda p: -p[0], 3, options_for(UNIT_SQUARE, (0.2, 0.3)))

    assert [p.line for p in asked] == ["start", "x", "y"]
    assert asked[2].origin == (0.2, 0.3)


@pytest.mark.parametrize("n_levels", [2, 3, 6])
def test_the_first_cycle_tries_every_level_of_a_nominal_axis(n_levels: int) -> None:
    space = Space.of(
        {"x": FloatDistribution(0.0, 1.0), "loss": CategoricalDistribution("abcdef"[:n_levels])}
    )
    asked = proposals(space, flat, n_levels, options_for(space, order=(1, 0)))

    assert {p.point[1] for p in asked} == set(space.axes[1].levels())
    assert {p.line for p in asked[1:]} == {"loss"}


def test_the_first_cycle_goes_on_from_the_best_level() -> None:
    heights = {0.0: 1.0, 0.5: 3.0, 1.0: 2.0}
    space = Space.of({"loss": CategoricalDistribution("abc"), "x": FloatDistribution(0.0, 1.0)})
    for start in heights:
        options = options_for(space, (start, 0.4))
        asked = proposals(space, lambda p: heights[p[0]], 4, options)

        assert asked[3].line == "x"
        assert asked[3].origin == (0.5, 0.4)


def test_the_first_cycle_tries_a_few_levels_of_a_long_nominal_axis() -> None:
    space = Space.of(
        {"loss": CategoricalDistribution("abcdefghijkl"), "x": FloatDistribution(0.0, 1.0)}
    )
    asked = proposals(space, flat, 8, options_for(space))

    n_tried = [p.line for p in asked].count("loss")
    assert 5 <= n_tried <= 6
    assert asked[1 + n_tried].line == "x"


def test_the_seed_decides_nothing_in_the_first_cycle_but_all_after_it() -> None:
    f = hill((0.3, 0.6, 0.5))
    a, b, c = (
        points(search(BALANCE_SPACE, f, 14, options_for(BALANCE_SPACE, seed=seed)))
        for seed in (0, 0, 1)
    )

    assert a == b != c
    assert a[:4] == c[:4]


@pytest.mark.parametrize("n_foreign", [7, 40])
def test_the_trials_of_another_search_stand_for_the_first_cycle(n_foreign: int) -> None:
    rng = np.random.default_rng(0)
    f = hill((0.1, 0.9, 0.5), 0.5)
    foreign = [BALANCE_SPACE.snap(list(u)) for u in rng.random((n_foreign, 3))]
    asked = proposals(
        BALANCE_SPACE, f, 8, options_for(BALANCE_SPACE), [(p, f(p)) for p in foreign]
    )

    assert all(p.expected_improvement is not None for p in asked)
    assert max(f(p.point) for p in asked) > max(map(f, foreign))


def response_on(space: Space, n: int = 16, seed: int = 0) -> Response:
    rng = np.random.default_rng(seed)
    f = hill(tuple(rng.random(len(space.axes))))
    drawn = [space.snap(list(u)) for u in rng.random((n, len(space.axes)))]
    return Response(history_of([(p, f(p)) for p in drawn]), [], space, seed)


@pytest.mark.parametrize("seed", range(4))
def test_lines_lead_through_the_incumbent_along_the_axes_they_are_named_after(seed: int) -> None:
    response = response_on(LOGS, seed=seed)
    for name, positions in _lines(response, LOGS):
        named = {LOGS.names.index(word) for word in re.split(r" [+/*] ", name.split(" const")[0])}
        changed = np.abs(positions - response.incumbent).max(axis=0) > 1e-9
        direction = positions - response.incumbent

        assert ((positions >= 0.0) & (positions <= 1.0)).all()
        assert set(np.flatnonzero(changed)) == named
        assert np.abs(direction).max(axis=1).min() < 1e-9
        assert np.linalg.matrix_rank(direction, tol=1e-6) == 1


@pytest.mark.parametrize("seed", range(4))
def test_along_a_line_of_two_axes_their_ratio_or_their_product_stays_the_same(seed: int) -> None:
    found = {}
    for name, positions in _lines(response_on(LOGS, seed=seed), LOGS):
        if name.endswith(" constant"):
            balance = np.array([LOGS.axes[0].decode(p[0]) for p in positions])
            temperature = np.array([LOGS.axes[2].decode(p[2]) for p in positions])
            found[name] = [
                bool(np.ptp(np.log(x)) < 1e-6)
                for x in (balance / temperature, balance * temperature)
            ]

    assert found == {
        "balance / temperature constant": [True, False],
        "balance * temperature constant": [False, True],
    }


def test_each_axis_has_a_line_and_a_nominal_one_its_levels() -> None:
    lines = dict(_lines(response_on(LOGS), LOGS))

    assert set(LOGS.names) <= set(lines)
    assert set(lines["loss"][:, 3]) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("f", [hill((0.3, 0.7, 0.25)), ridge(0.25), ridge(0.7)])
def test_a_proposal_says_along_what_it_leads_from_where(f: Callable[[Point], float]) -> None:
    asked = proposals(BALANCE_SPACE, f, 25, options_for(BALANCE_SPACE))
    for i, proposal in enumerate(asked[1:], start=1):
        assert proposal.origin in {p.point for p in asked[:i]}
        if proposal.line != "whole space":
            words = re.split(r" [+/*] ", proposal.line.removesuffix(" constant"))
            changed = {BALANCE_SPACE.names[j] for j in moved(proposal)}
            # On a line askew, the nearest batch size may be that of its origin.
            assert changed <= set(words) and (changed == set(words) or len(words) > 1)


def test_no_point_is_the_most_promising_where_all_are_taken() -> None:
    space = Space.of({"n": IntDistribution(0, 3), "loss": CategoricalDistribution("abc")})
    response = response_on(space, 5)
    everything = list(space.points())

    rng = np.random.default_rng(0)

    assert most_promising(response, lambda point: True, space, rng) is None
    for free in everything:
        others = set(everything) - {free}
        proposal = most_promising(response, others.__contains__, space, rng)
        assert proposal is not None and proposal.point == free


def test_from_its_first_proposal_on_the_model_says_what_it_expects() -> None:
    asked = proposals(BALANCE_SPACE, hill((0.3, 0.7, 0.25)), 25, options_for(BALANCE_SPACE))
    expected = [p.expected_improvement for p in asked]
    n_first = expected.index(next(e for e in expected if e is not None))

    assert 4 <= n_first <= 7
    assert all(e is not None and 0.0 < e < 1.0 for e in expected[n_first:])


def test_less_is_expected_of_a_search_that_is_nearly_done() -> None:
    asked = proposals(BALANCE_SPACE, hill((0.3, 0.7, 0.25)), 40, options_for(BALANCE_SPACE))
    expected = [p.expected_improvement or 0.0 for p in asked]

    assert max(expected[-5:]) < 0.2 * max(expected)


def batch(f: Callable[[Point], float], n_before: int, seed: int = 0) -> list[Point]:
    """What eight workers get that come one after the other."""
    options = options_for(BALANCE_SPACE, seed=seed)
    history = history_of(search(BALANCE_SPACE, f, n_before, options))
    pending: list[Point] = []
    for _ in range(8):
        pending.append(next_point(history, pending, BALANCE_SPACE, options).point)
    return pending


@pytest.mark.parametrize("f", [hill((0.3, 0.7, 0.25)), ridge(0.25), ridge(0.7)])
@pytest.mark.parametrize("n_before", [1, 12])
def test_eight_workers_get_points_apart_from_one_another(
    f: Callable[[Point], float], n_before: int
) -> None:
    pending = batch(f, n_before)
    gaps = [math.dist(a, b) for a, b in itertools.combinations(pending, 2)]

    assert len(set(pending)) == 8
    assert np.median(gaps) > 0.15
    assert sum(gap < 0.05 for gap in gaps) <= 4


@pytest.mark.parametrize("f", [hill((0.3, 0.7, 0.25)), ridge(0.25), ridge(0.7)])
def test_eight_workers_do_better_than_eight_random_points(f: Callable[[Point], float]) -> None:
    rng = np.random.default_rng(0)
    random_bests = [
        max(f(BALANCE_SPACE.snap(list(u))) for u in rng.random((8, 3))) for _ in range(101)
    ]

    assert np.mean([max(map(f, batch(f, 8, seed))) for seed in range(3)]) > np.mean(random_bests)


@pytest.mark.parametrize("best_levels", [(1, 8, 3), (9, 0, 5)])
def test_the_best_of_a_thousand_points_is_found_among_the_first_thirty(
    best_levels: tuple[int, ...],
) -> None:
    space = Space.of({name: IntDistribution(0, 9) for name in "abc"})
    optimum = space.snap([level / 9 for level in best_levels])

    assert optimum in points(search(space, hill(optimum, 0.6), 30, options_for(space)))


@pytest.mark.parametrize("seed", range(3))
def test_noise_does_not_keep_it_from_the_top(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = hill((0.3, 0.7, 0.25), 0.5)
    trials = search(
        BALANCE_SPACE,
        lambda p: f(p) + 0.05 * rng.standard_normal(),
        40,
        options_for(BALANCE_SPACE, seed=seed),
    )
    response = Response(history_of(trials), [], BALANCE_SPACE, seed)

    assert f(tuple(response.incumbent)) > 0.9
