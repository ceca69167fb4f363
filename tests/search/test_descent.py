"""Coordinate descent as a function of the history."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from dataclasses import replace
import itertools
import math
import random
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
import pytest

from cbal_optuna.search import DescentOptions
from cbal_optuna.search import History
from cbal_optuna.search import next_point
from cbal_optuna.search import Point
from cbal_optuna.search import Space


DISTRIBUTIONS: list[BaseDistribution] = [
    FloatDistribution(-1.0, 3.0),
    FloatDistribution(1e-3, 10.0, log=True),
    FloatDistribution(0.0, 1.0, step=0.1),
    FloatDistribution(-1e308, 1e308),
    IntDistribution(0, 1),
    IntDistribution(3, 30, step=9),
    IntDistribution(1, 1000, log=True),
    IntDistribution(0, 10**7),
    CategoricalDistribution([32, 64]),
    CategoricalDistribution([16, 32, 64, 128, 256]),
    CategoricalDistribution([None, True, "adam", 0.5, float("nan")]),
    CategoricalDistribution("abcdefghijkl"),
]
SMALL = [d for d in DISTRIBUTIONS if 0 < (Space.of({"x": d}).axes[0].n_levels or 0) < 6]

BALANCE_SPACE = Space.of(
    {
        "balance": FloatDistribution(0.1, 10.0, log=True),
        "temperature": FloatDistribution(0.01, 1.0, log=True),
        "batch_size": CategoricalDistribution([32, 64, 128, 256, 512]),
    }
)


def options_for(space: Space, start: Point | None = None, **changes: Any) -> DescentOptions:
    start = tuple(axis.snap(0.5) for axis in space.axes) if start is None else start
    return replace(DescentOptions(start=start, order=tuple(range(len(start)))), **changes)


def search(
    space: Space,
    f: Callable[[Point], float],
    n: int,
    options: DescentOptions | None = None,
    history: Collection[tuple[Point, float]] = (),
) -> list[tuple[Point, float]]:
    """The points evaluated and their values, after those given."""
    options = options or options_for(space)
    trials = [(number, *entry) for number, entry in enumerate(history)]
    for number in range(len(trials), len(trials) + n):
        point = next_point(History(trials), (), space, options)
        trials.append((number, point, f(point)))
    return [(point, value) for _, point, value in trials[len(history) :]]


def points(trials: list[tuple[Point, float]]) -> list[Point]:
    return [point for point, _ in trials]


def best(trials: list[tuple[Point, float]]) -> tuple[Point, float]:
    return max(trials, key=lambda trial: trial[1])


def hill(optimum: Point, width: float = 0.4) -> Callable[[Point], float]:
    return lambda point: math.exp(
        -sum(((p - o) / width) ** 2 for p, o in zip(point, optimum, strict=True))
    )


def noise(seed: int) -> Callable[[Point], float]:
    """A value for each point, with walls and jackpots, that has nothing to do with its place."""

    def f(point: Point) -> float:
        rng = random.Random(f"{seed} {point}")
        return rng.choice([rng.gauss(0.0, 1.0)] * 8 + [-math.inf, math.inf])

    return f


@st.composite
def spaces(draw: st.DrawFn, distributions: Collection[BaseDistribution] = DISTRIBUTIONS) -> Space:
    chosen = draw(st.lists(st.sampled_from(list(distributions)), min_size=1, max_size=4))
    return Space.of({f"x{i}": d for i, d in enumerate(chosen)})


@st.composite
def problems(draw: st.DrawFn) -> tuple[Space, DescentOptions, History, set[Point]]:
    """A space in the middle of being searched, by this search and by others."""
    space, rng = draw(spaces()), random.Random(draw(st.integers(0, 10**6)))
    f = noise(draw(st.integers(0, 10**6)))
    options = options_for(
        space,
        start=space.snap([rng.random() for _ in space.axes]),
        order=tuple(rng.sample(range(len(space.axes)), len(space.axes))),
        initial_step=draw(st.sampled_from([0.05, 0.25, 1.0])),
        seed=draw(st.integers(0, 3)),
    )
    foreign = [
        space.snap([rng.random() for _ in space.axes]) for _ in range(draw(st.integers(0, 9)))
    ]
    before = [(point, f(point)) for point in foreign]
    own = search(space, f, draw(st.integers(0, 12)), options, before)
    history = History((i, *trial) for i, trial in enumerate([*before, *own]))
    pending: set[Point] = set()
    for _ in range(draw(st.integers(0, 4))):
        pending.add(next_point(history, pending, space, options))
    return space, options, history, pending


@settings(max_examples=150, deadline=None)
@given(problems())
def test_the_next_point_is_a_free_point_of_the_space(
    problem: tuple[Space, DescentOptions, History, set[Point]],
) -> None:
    space, options, history, pending = problem
    point = next_point(history, pending, space, options)

    assert space.snap(point) == point
    assert space.encode(space.decode(point)) == point
    taken = pending.union(history.points)
    assert point not in taken or len(taken) >= space.size


@settings(max_examples=50, deadline=None)
@given(problems(), st.randoms())
def test_the_next_point_depends_on_nothing_but_history_pending_points_and_options(
    problem: tuple[Space, DescentOptions, History, set[Point]], rng: random.Random
) -> None:
    space, options, history, pending = problem
    again = Space.of({axis.name: axis.distribution for axis in space.axes})
    shuffled = rng.sample(sorted(pending), len(pending))
    numbered = History((2 * i, p, history.value(p)) for i, p in enumerate(history.points))

    expected = next_point(history, pending, space, options)
    assert next_point(numbered, shuffled, again, options) == expected


@settings(max_examples=30, deadline=None)
@given(spaces(SMALL), st.integers(0, 99))
def test_a_finite_space_is_evaluated_once_and_then_its_best_point_again(
    space: Space, seed: int
) -> None:
    size = int(space.size)
    if size > 60:
        return
    trials = search(space, noise(seed), size + 2)

    assert set(points(trials[:size])) == set(space.points())
    assert points(trials[size:]) == [best(trials)[0]] * 2


@settings(max_examples=30, deadline=None)
@given(spaces(SMALL), st.integers(0, 99))
def test_workers_together_take_every_point_of_a_finite_space(space: Space, seed: int) -> None:
    size = int(space.size)
    if size > 60:
        return
    start = options_for(space).start
    history = History([(0, start, 1.0)])
    pending: set[Point] = set()
    for _ in range(size - 1):
        pending.add(next_point(history, pending, space, options_for(space, seed=seed)))

    assert pending == set(space.points()) - {start}


@pytest.mark.parametrize("n_free", [1, 2, 7])
def test_the_last_free_points_of_a_large_space_are_found(n_free: int) -> None:
    space = Space.of({name: IntDistribution(0, 9) for name in "abc"})
    everything = list(space.points())
    random.Random(0).shuffle(everything)
    f = hill((0.3, 0.7, 0.1))
    history = [(point, f(point)) for point in everything[n_free:]]
    trials = search(space, f, n_free, history=history)

    assert set(points(trials)) == set(everything[:n_free])


def test_a_space_that_others_evaluate_entirely_is_no_reason_to_wait() -> None:
    space = Space.of({"n": IntDistribution(0, 4)})

    assert next_point(History([]), set(space.points()), space, options_for(space)) == (0.5,)


@settings(max_examples=25, deadline=None)
@given(spaces(), st.integers(0, 99))
def test_stopping_and_going_on_is_the_same_as_one_go(space: Space, seed: int) -> None:
    f = noise(seed)
    in_one_go = search(space, f, 24)
    history: list[tuple[Point, float]] = []
    for _ in range(3):
        history += search(space, f, 8, options_for(space), history)

    assert history == in_one_go


@pytest.mark.parametrize("unit, zero", [(1024.0, 0.0), (0.25, 0.0), (1.0, 64.0)])
def test_the_unit_and_the_zero_of_the_values_do_not_matter(unit: float, zero: float) -> None:
    f = hill((0.2, 0.6, 0.25))
    # Rounded, so that a sum with `zero` is exact.
    coarse = lambda point: round(f(point) * 2**20) / 2**20  # noqa: E731

    assert points(search(BALANCE_SPACE, lambda p: unit * coarse(p) + zero, 40)) == points(
        search(BALANCE_SPACE, coarse, 40)
    )


def test_the_first_point_is_the_start() -> None:
    start = BALANCE_SPACE.snap([0.1, 0.9, 1.0])

    assert points(search(BALANCE_SPACE, len, 1, options_for(BALANCE_SPACE, start))) == [start]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_axes_are_searched_in_the_order_given(order: tuple[int, ...]) -> None:
    options = options_for(BALANCE_SPACE, order=order)
    trials = points(search(BALANCE_SPACE, lambda point: 0.0, 11, options))

    changed = [[j for j in range(3) if p[j] != options.start[j]] for p in trials[1:]]
    searched = [j for j, _ in itertools.groupby(changed)]
    assert searched == [[j] for j in order]


@pytest.mark.parametrize("initial_step", [0.05, 0.1, 0.25, 1.0])
@pytest.mark.parametrize("distribution", [d for d in DISTRIBUTIONS if d in SMALL], ids=str)
def test_however_far_apart_its_levels_an_axis_is_searched(
    distribution: BaseDistribution, initial_step: float
) -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0), "levels": distribution})
    for start in ((0.5, level) for level in space.axes[1].levels()):
        options = options_for(space, start, initial_step=initial_step, tolerance=0.01)
        trials = points(search(space, hill(start), 14, options))
        neighbours = (
            {space.axes[1].neighbour(start[1], side) for side in (-1.0, 1.0)}
            if not space.axes[1].nominal
            else set(space.axes[1].levels())
        )

        assert {level for _, level in trials} >= neighbours


def test_a_step_is_half_the_last_move() -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0)})
    trials = search(space, lambda p: -((p[0] - 0.9) ** 2), 6)

    # Up, up to the bound, back by two golden sections; then half of the move of 0.4 from there.
    assert [x for (x,), _ in trials] == pytest.approx(
        [0.5, 0.75, 1.0, 0.905, 0.845, 0.702], abs=1e-3
    )


@pytest.mark.parametrize("n_levels", [2, 3, 6])
def test_every_level_of_a_nominal_axis_is_tried_at_once(n_levels: int) -> None:
    space = Space.of({"loss": CategoricalDistribution("abcdef"[:n_levels])})
    trials = points(search(space, lambda point: 0.0, n_levels))

    assert set(trials) == set(space.points())


def test_a_long_nominal_axis_is_tried_in_parts() -> None:
    space = Space.of(
        {"loss": CategoricalDistribution("abcdefghijkl"), "x": FloatDistribution(0.0, 1.0)}
    )
    trials = points(search(space, lambda point: 0.0, 60))

    assert {x for _, x in trials[1:6]} == {0.5}
    assert {x for _, x in trials[7:9]} != {0.5}
    assert {loss for loss, _ in trials} == set(space.axes[0].levels())


def test_repeated_evaluations_of_a_point_count_by_their_mean() -> None:
    history = History([(0, (0.0,), 1.0), (1, (0.5,), 2.0), (2, (0.0,), 5.0), (3, (1.0,), 2.5)])

    assert (history.value((0.0,)), history.number((0.0,)), len(history)) == (3.0, 0, 3)
    assert history.best == (0.0,)


def test_one_evaluation_that_could_not_be_used_spoils_a_point() -> None:
    history = History([(0, (0.0,), 9.0), (1, (0.5,), 1.0), (2, (0.0,), -math.inf)])

    assert history.best == (0.5,)
    assert history.lowest == 1.0


def test_a_point_both_infinitely_good_and_unusable_is_unusable() -> None:
    assert History([(0, (0.0,), math.inf), (1, (0.0,), -math.inf)]).value((0.0,)) == -math.inf


def test_points_under_way_are_not_better_than_a_history_without_any_usable_point() -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0)})
    history = History([(0, (0.5,), -math.inf)])
    pending = {(0.75,)}

    assert next_point(history, pending, space, options_for(space)) == (0.25,)


def test_a_point_under_way_does_not_hold_up_the_descent() -> None:
    f = hill((0.3, 0.7, 0.25))
    trials: list[tuple[int, Point, float]] = []
    dead = {next_point(History([]), (), BALANCE_SPACE, options_for(BALANCE_SPACE))}
    for number in range(40):
        point = next_point(History(trials), dead, BALANCE_SPACE, options_for(BALANCE_SPACE))
        trials.append((number, point, f(point)))

    assert dead.isdisjoint(History(trials).points)
    assert max(value for _, _, value in trials) > 0.99


@pytest.mark.parametrize("n_workers", [2, 3, 8])
def test_workers_in_step_get_on_with_the_search(n_workers: int) -> None:
    f, options = hill((0.3, 0.8, 0.25)), options_for(BALANCE_SPACE)
    trials: list[tuple[int, Point, float]] = []
    for _ in range(64 // n_workers):
        history, pending = History(trials), set[Point]()
        for _ in range(n_workers):
            pending.add(next_point(history, pending, BALANCE_SPACE, options))
        assert len(pending) == n_workers
        trials += [(len(trials) + i, point, f(point)) for i, point in enumerate(sorted(pending))]

    assert max(value for _, _, value in trials) > 0.99


def test_walls_are_never_stood_on() -> None:
    f = lambda p: hill((0.7, 0.5, 0.5))(p) if p[0] < 0.65 else -math.inf  # noqa: E731
    trials = search(BALANCE_SPACE, f, 40)

    assert best(trials)[0][0] < 0.65
    assert best(trials)[1] > 0.97
    inside = sum(math.isinf(value) for _, value in trials)
    assert 0 < inside < 15


def test_a_start_that_cannot_be_used_is_left_after_one_cycle() -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})
    f = lambda p: hill((0.9, 0.9))(p) if min(p) > 0.8 else -math.inf  # noqa: E731
    trials = search(space, f, 60, options_for(space, (0.2, 0.2)))

    assert sum(max(abs(x - 0.2), abs(y - 0.2)) <= 0.25 for x, y in points(trials[:10])) <= 6
    assert best(trials)[1] > 0.99


def test_a_history_without_any_usable_point_is_searched_all_over() -> None:
    trials = points(search(BALANCE_SPACE, lambda point: -math.inf, 60))

    assert len(set(trials)) == 60
    assert {(x > 0.5, y > 0.5) for x, y, _ in trials} == set(
        itertools.product([False, True], repeat=2)
    )


def test_a_converged_descent_starts_again_elsewhere() -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0)})
    near, far = hill((0.3,), 0.2), hill((0.9,), 0.1)
    options = options_for(space, (0.25,))
    trials = search(space, lambda p: near(p) + 3.0 * far(p), 100, options)

    assert best(trials[:10])[1] == pytest.approx(1.0, abs=0.01)
    assert best(trials)[1] == pytest.approx(3.0, abs=0.03)


def test_a_later_descent_stays_where_it_starts() -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})
    trials = points(search(space, hill((0.4, 0.4), 1.0), 50))
    restart = next(
        i for i, p in enumerate(trials) if i > 20 and min(map(abs, np.subtract(p, 0.4))) > 0.1
    )

    assert all(trials[restart][1] == y for _, y in trials[restart + 1 : restart + 3])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_seed_decides_where_a_descent_starts_again_and_nothing_before(seed: int) -> None:
    f = hill((0.3, 0.6, 0.5))
    a, b = (
        points(search(BALANCE_SPACE, f, 60, options_for(BALANCE_SPACE, seed=s))) for s in (0, seed)
    )

    assert a[:15] == b[:15]
    assert a != b


@pytest.mark.parametrize("n_before", [4, 12, 60])
def test_a_better_point_from_elsewhere_is_searched_around(n_before: int) -> None:
    hidden, visible = hill((0.05, 0.95, 1.0), 0.1), hill((0.6, 0.4, 0.25))
    f = lambda p: 5.0 * hidden(p) + visible(p)  # noqa: E731
    before = search(BALANCE_SPACE, f, n_before)
    enqueued = BALANCE_SPACE.snap([0.11, 0.89, 1.0])
    after = search(BALANCE_SPACE, f, 30, history=[*before, (enqueued, f(enqueued))])

    assert best(before)[1] < 1.1 < f(enqueued) < 3.0
    assert best(after)[1] > 4.9


def test_an_axis_at_rest_is_searched_again_around_a_better_point_from_elsewhere() -> None:
    space = Space.of({"n": IntDistribution(0, 4), "x": FloatDistribution(0.0, 1.0)})
    near, far = hill((0.0, 0.3), 0.2), hill((1.0, 0.9), 0.3)
    f = lambda p: near(p) + 5.0 * far(p)  # noqa: E731
    before = search(space, f, 14, options_for(space, (0.25, 0.4)))
    assert {n for n, _ in points(before[-6:])} == {0.0}
    enqueued = (0.75, 0.9)
    after = search(
        space, f, 12, options_for(space, (0.25, 0.4)), [*before, (enqueued, f(enqueued))]
    )

    assert best(before)[0][0] == 0.0
    assert (1.0, 0.9) in points(after)


def test_a_worse_point_from_elsewhere_changes_nothing() -> None:
    f = hill((0.3, 0.6, 0.5))
    before = search(BALANCE_SPACE, f, 10)
    worse = BALANCE_SPACE.snap([0.99, 0.01, 1.0])
    after = search(BALANCE_SPACE, f, 5, history=[*before, (worse, f(worse))])

    assert points(after) == points(search(BALANCE_SPACE, f, 15))[10:]


def test_the_trials_of_another_search_are_taken_up() -> None:
    f, rng = hill((0.1, 0.9, 0.5), 0.2), np.random.default_rng(0)
    foreign = [BALANCE_SPACE.snap(list(rng.random(3))) for _ in range(40)]
    history = [(point, f(point)) for point in foreign]
    trials = search(BALANCE_SPACE, f, 3, history=history)

    # Its own start comes first, as it would without them.
    assert trials[0][0] == options_for(BALANCE_SPACE).start
    assert all(sum(map(float.__ne__, p, best(history)[0])) == 1 for p in points(trials[1:]))


@pytest.mark.parametrize("corner", list(itertools.product([0.0, 1.0], repeat=3)))
def test_an_optimum_in_a_corner_is_reached(corner: Point) -> None:
    assert best(search(BALANCE_SPACE, hill(corner), 25))[1] > 0.97


@pytest.mark.parametrize("low_end", [True, False])
def test_a_discrete_optimum_on_a_bound_is_found_exactly(low_end: bool) -> None:
    space = Space.of(
        {
            "n": IntDistribution(1, 64),
            "b": CategoricalDistribution([8, 16, 32, 64, 128, 256]),
            "s": FloatDistribution(0.0, 1.0, step=0.1),
        }
    )
    corner = (0.0,) * 3 if low_end else (1.0,) * 3

    assert best(search(space, hill(corner, 0.6), 25))[0] == corner


@pytest.mark.parametrize(
    "optimum", [(0.3, 0.7, 0.25), (0.8, 0.2, 1.0), (0.15, 0.4, 0.5), (0.62, 0.9, 0.0)], ids=str
)
def test_a_separable_surface_is_climbed_to_one_percent_in_twenty_trials(optimum: Point) -> None:
    assert best(search(BALANCE_SPACE, hill(optimum), 20))[1] > 0.99


def ridge(top: float) -> Callable[[Point], float]:
    """Narrow across the line of constant balance / temperature, wide along it."""

    def f(point: Point) -> float:
        x, y, batch_size = point
        across, along = (x - y - 0.1) / 0.2, (x + y - 2.0 * top) / 0.9
        return math.exp(-(across**2) - along**2 - (batch_size - 0.75) ** 2)

    return f


@pytest.mark.parametrize("top", [0.25, 0.4, 0.7])
def test_a_ridge_is_climbed_to_three_percent_in_forty_trials(top: float) -> None:
    assert best(search(BALANCE_SPACE, ridge(top), 40))[1] > 0.97


@pytest.mark.parametrize(
    "f, n",
    [
        (hill((0.3, 0.7, 0.25)), 15),
        (hill((0.8, 0.2, 1.0)), 15),
        (ridge(0.25), 30),
        (ridge(0.4), 15),
        (ridge(0.7), 15),
    ],
)
def test_it_is_ahead_of_random_search(f: Callable[[Point], float], n: int) -> None:
    rng = np.random.default_rng(0)
    random_bests = [
        max(f(BALANCE_SPACE.snap(list(u))) for u in rng.random((n, 3))) for _ in range(101)
    ]

    assert best(search(BALANCE_SPACE, f, n))[1] > np.median(random_bests)


def test_hundreds_of_trials_are_replayed() -> None:
    f = hill((0.3, 0.7, 0.25))
    trials = search(BALANCE_SPACE, f, 300)

    assert len(set(points(trials))) == 300
