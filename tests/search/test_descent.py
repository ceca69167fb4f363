"""What holds for every way to search a line."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import itertools
import math
import random

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
from cbal_optuna.search import LINE_SEARCHES
from cbal_optuna.search import next_point
from cbal_optuna.search import Point
from cbal_optuna.search import Space

from .problems import BALANCE_SPACE
from .problems import best
from .problems import hash_noise
from .problems import hill
from .problems import history_of
from .problems import options_for
from .problems import points
from .problems import ridge
from .problems import search
from .problems import Trial
from .problems import UNIT_SQUARE


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

every_search = pytest.mark.parametrize("line_search", LINE_SEARCHES)


def proposed(
    history: History, pending: Collection[Point], space: Space, options: DescentOptions
) -> Point:
    return next_point(history, pending, space, options).point


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    chosen = draw(st.lists(st.sampled_from(DISTRIBUTIONS), min_size=1, max_size=4))
    return Space.of({f"x{i}": d for i, d in enumerate(chosen)})


@st.composite
def small_spaces(draw: st.DrawFn) -> Space:
    """Of 40 points at most."""
    chosen = draw(st.lists(st.sampled_from(SMALL), min_size=1, max_size=4))
    space = Space.of({f"x{i}": d for i, d in enumerate(chosen)})
    return space if space.size <= 40 else Space(space.axes[:2])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Space, DescentOptions, History, set[Point]]:
    """A space in the middle of being searched, by this search and by others."""
    space, rng = draw(spaces()), random.Random(draw(st.integers(0, 10**6)))
    f = hash_noise(draw(st.integers(0, 10**6)))
    options = options_for(
        space,
        start=space.snap([rng.random() for _ in space.axes]),
        order=tuple(rng.sample(range(len(space.axes)), len(space.axes))),
        line_search=draw(st.sampled_from(list(LINE_SEARCHES))),
        initial_step=draw(st.sampled_from([0.05, 0.25, 1.0])),
        seed=draw(st.integers(0, 3)),
    )
    foreign = [
        space.snap([rng.random() for _ in space.axes]) for _ in range(draw(st.integers(0, 9)))
    ]
    before = [(point, f(point)) for point in foreign]
    history = history_of([*before, *search(space, f, draw(st.integers(0, 9)), options, before)])
    pending: set[Point] = set()
    for _ in range(draw(st.integers(0, 4))):
        pending.add(proposed(history, pending, space, options))
    return space, options, history, pending


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_next_point_is_a_free_point_of_the_space(
    problem: tuple[Space, DescentOptions, History, set[Point]],
) -> None:
    space, options, history, pending = problem
    point = proposed(history, pending, space, options)

    assert space.snap(point) == point
    assert space.encode(space.decode(point)) == point
    taken = pending.union(history.points)
    assert point not in taken or len(taken) >= space.size


@settings(max_examples=25, deadline=None)
@given(problems(), st.randoms())
def test_the_next_point_depends_on_nothing_but_history_pending_points_and_options(
    problem: tuple[Space, DescentOptions, History, set[Point]], rng: random.Random
) -> None:
    space, options, history, pending = problem
    again = Space.of({axis.name: axis.distribution for axis in space.axes})
    shuffled = rng.sample(sorted(pending), len(pending))
    numbered = History((2 * i, p, history.value(p)) for i, p in enumerate(history.points))

    expected = proposed(history, pending, space, options)
    assert proposed(numbered, shuffled, again, options) == expected


@every_search
@settings(max_examples=15, deadline=None)
@given(small_spaces(), st.integers(0, 99))
def test_a_finite_space_is_evaluated_once_and_then_its_best_point_again(
    line_search: str, space: Space, seed: int
) -> None:
    size = int(space.size)
    options = options_for(space, line_search=line_search)
    trials = search(space, hash_noise(seed), size + 2, options)

    assert set(points(trials[:size])) == set(space.points())
    assert points(trials[size:]) == [best(trials)[0]] * 2


@every_search
@settings(max_examples=15, deadline=None)
@given(small_spaces(), st.integers(0, 99))
def test_workers_together_take_every_point_of_a_finite_space(
    line_search: str, space: Space, seed: int
) -> None:
    options = options_for(space, line_search=line_search, seed=seed)
    history = History([(0, options.start, 1.0)])
    pending: set[Point] = set()
    for _ in range(int(space.size) - 1):
        pending.add(proposed(history, pending, space, options))

    assert pending == set(space.points()) - {options.start}


@every_search
@pytest.mark.parametrize("n_free", [1, 2, 7])
def test_the_last_free_points_of_a_large_space_are_found(line_search: str, n_free: int) -> None:
    space = Space.of({name: IntDistribution(0, 9) for name in "abc"})
    everything = list(space.points())
    random.Random(0).shuffle(everything)
    f = hill((0.3, 0.7, 0.1))
    before = [(point, f(point)) for point in everything[n_free:]]
    trials = search(space, f, n_free, options_for(space, line_search=line_search), before)

    assert set(points(trials)) == set(everything[:n_free])


@every_search
def test_a_space_that_others_evaluate_entirely_is_no_reason_to_wait(line_search: str) -> None:
    space = Space.of({"n": IntDistribution(0, 4)})
    options = options_for(space, line_search=line_search)

    assert proposed(History([]), set(space.points()), space, options) == (0.5,)


@every_search
@settings(max_examples=5, deadline=None)
@given(spaces(), st.integers(0, 99))
def test_stopping_and_going_on_is_the_same_as_one_go(
    line_search: str, space: Space, seed: int
) -> None:
    f, options = hash_noise(seed), options_for(space, line_search=line_search)
    in_one_go = search(space, f, 18, options)
    trials: list[Trial] = []
    for _ in range(3):
        trials += search(space, f, 6, options, trials)

    assert trials == in_one_go


@every_search
@pytest.mark.parametrize("unit, zero", [(1024.0, 0.0), (0.25, 0.0), (1.0, 64.0)])
def test_the_unit_and_the_zero_of_the_values_do_not_matter(
    line_search: str, unit: float, zero: float
) -> None:
    f, options = hill((0.2, 0.6, 0.25)), options_for(BALANCE_SPACE, line_search=line_search)
    # Rounded, so that a sum with `zero` is exact.
    coarse = lambda point: round(f(point) * 2**20) / 2**20  # noqa: E731
    changed = search(BALANCE_SPACE, lambda p: unit * coarse(p) + zero, 20, options)

    assert points(changed) == points(search(BALANCE_SPACE, coarse, 20, options))


@every_search
def test_the_first_point_is_the_start(line_search: str) -> None:
    start = BALANCE_SPACE.snap([0.1, 0.9, 1.0])
    options = options_for(BALANCE_SPACE, start, line_search=line_search)

    assert points(search(BALANCE_SPACE, len, 1, options)) == [start]


@every_search
@pytest.mark.parametrize("distribution", SMALL, ids=str)
def test_a_step_shorter_than_the_gap_between_two_levels_is_taken_to_the_next(
    line_search: str, distribution: BaseDistribution
) -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0), "levels": distribution})
    options = options_for(space, order=(1, 0), initial_step=0.05, line_search=line_search)
    first, second = points(search(space, lambda point: 0.0, 2, options))

    assert first[1] != second[1]


@every_search
@pytest.mark.parametrize("n_levels", [2, 3, 6])
def test_every_level_of_a_nominal_axis_is_tried_at_once(line_search: str, n_levels: int) -> None:
    space = Space.of({"loss": CategoricalDistribution("abcdef"[:n_levels])})
    options = options_for(space, line_search=line_search)
    trials = points(search(space, lambda point: 0.0, n_levels, options))

    assert set(trials) == set(space.points())


@every_search
def test_a_long_nominal_axis_is_tried_in_parts(line_search: str) -> None:
    space = Space.of(
        {"loss": CategoricalDistribution("abcdefghijkl"), "x": FloatDistribution(0.0, 1.0)}
    )
    options = options_for(space, line_search=line_search)
    trials = points(search(space, lambda point: 0.0, 60, options))

    assert {x for _, x in trials[1:6]} == {0.5}
    assert {x for _, x in trials[7:9]} != {0.5}
    assert {loss for loss, _ in trials} == set(space.axes[0].levels())


@every_search
def test_a_point_under_way_does_not_hold_up_the_descent(line_search: str) -> None:
    f, options = hill((0.3, 0.7, 0.25)), options_for(BALANCE_SPACE, line_search=line_search)
    dead = {options.start}
    trials: list[Trial] = []
    for _ in range(40):
        point = proposed(history_of(trials), dead, BALANCE_SPACE, options)
        trials.append((point, f(point)))

    assert dead.isdisjoint(points(trials))
    assert best(trials)[1] > 0.99


@every_search
@pytest.mark.parametrize("n_workers", [2, 3, 8])
def test_workers_in_step_get_on_with_the_search(line_search: str, n_workers: int) -> None:
    f, options = hill((0.3, 0.8, 0.25)), options_for(BALANCE_SPACE, line_search=line_search)
    trials: list[Trial] = []
    for _ in range(64 // n_workers):
        history, pending = history_of(trials), set[Point]()
        for _ in range(n_workers):
            pending.add(proposed(history, pending, BALANCE_SPACE, options))
        assert len(pending) == n_workers
        trials += [(point, f(point)) for point in sorted(pending)]

    assert best(trials)[1] > 0.99


@every_search
def test_walls_are_never_stood_on(line_search: str) -> None:
    f = lambda p: hill((0.7, 0.5, 0.5))(p) if p[0] < 0.65 else -math.inf  # noqa: E731
    trials = search(BALANCE_SPACE, f, 40, options_for(BALANCE_SPACE, line_search=line_search))

    assert best(trials)[0][0] < 0.65
    assert best(trials)[1] > 0.95
    inside = sum(math.isinf(value) for _, value in trials)
    assert 0 < inside < 20


@every_search
def test_a_start_that_cannot_be_used_is_left_after_one_cycle(line_search: str) -> None:
    f = lambda p: hill((0.9, 0.9))(p) if min(p) > 0.8 else -math.inf  # noqa: E731
    options = options_for(UNIT_SQUARE, (0.2, 0.2), line_search=line_search)
    trials = search(UNIT_SQUARE, f, 60, options)

    assert sum(max(abs(x - 0.2), abs(y - 0.2)) <= 0.25 for x, y in points(trials[:10])) <= 6
    assert best(trials)[1] > 0.99


@every_search
def test_a_history_without_any_usable_point_is_searched_all_over(line_search: str) -> None:
    options = options_for(BALANCE_SPACE, line_search=line_search)
    trials = points(search(BALANCE_SPACE, lambda point: -math.inf, 60, options))

    assert len(set(trials)) == 60
    assert {(x > 0.5, y > 0.5) for x, y, _ in trials} == set(
        itertools.product([False, True], repeat=2)
    )


@every_search
def test_a_higher_hill_elsewhere_is_found_in_the_end(line_search: str) -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0)})
    near, far = hill((0.3,), 0.2), hill((0.9,), 0.1)
    options = options_for(space, (0.25,), line_search=line_search)
    trials = search(space, lambda p: near(p) + 3.0 * far(p), 100, options)

    assert best(trials)[1] == pytest.approx(3.0, abs=0.03)


@every_search
@pytest.mark.parametrize("n_before", [4, 12, 40])
def test_a_better_point_from_elsewhere_is_searched_around(line_search: str, n_before: int) -> None:
    options = options_for(BALANCE_SPACE, line_search=line_search)
    hidden, visible = hill((0.05, 0.95, 1.0), 0.1), hill((0.6, 0.4, 0.25))
    f = lambda p: 5.0 * hidden(p) + visible(p)  # noqa: E731
    # Of another search, which knows the visible hill only.
    before = [(p, visible(p)) for p in points(search(BALANCE_SPACE, visible, n_before, options))]
    enqueued = BALANCE_SPACE.snap([0.11, 0.89, 1.0])
    after = search(BALANCE_SPACE, f, 30, options, [*before, (enqueued, f(enqueued))])

    assert best(before)[1] < 1.1 < f(enqueued) < 3.0
    assert best(after)[1] > 4.9


@every_search
@pytest.mark.parametrize("corner", list(itertools.product([0.0, 1.0], repeat=3)))
def test_an_optimum_in_a_corner_is_reached(line_search: str, corner: Point) -> None:
    options = options_for(BALANCE_SPACE, line_search=line_search)

    assert best(search(BALANCE_SPACE, hill(corner), 25, options))[1] > 0.97


@every_search
@pytest.mark.parametrize("low_end", [True, False])
def test_a_discrete_optimum_on_a_bound_is_found_exactly(line_search: str, low_end: bool) -> None:
    space = Space.of(
        {
            "n": IntDistribution(1, 64),
            "b": CategoricalDistribution([8, 16, 32, 64, 128, 256]),
            "s": FloatDistribution(0.0, 1.0, step=0.1),
        }
    )
    corner = (0.0,) * 3 if low_end else (1.0,) * 3
    options = options_for(space, line_search=line_search)

    assert best(search(space, hill(corner, 0.6), 25, options))[0] == corner


@every_search
@pytest.mark.parametrize(
    "optimum", [(0.3, 0.7, 0.25), (0.8, 0.2, 1.0), (0.15, 0.4, 0.5), (0.62, 0.9, 0.0)], ids=str
)
def test_a_separable_surface_is_climbed_to_one_percent_in_twenty_trials(
    line_search: str, optimum: Point
) -> None:
    options = options_for(BALANCE_SPACE, line_search=line_search)

    assert best(search(BALANCE_SPACE, hill(optimum), 20, options))[1] > 0.99


@every_search
@pytest.mark.parametrize("top", [0.25, 0.4, 0.7])
def test_a_ridge_is_climbed_to_three_percent_in_forty_trials(line_search: str, top: float) -> None:
    options = options_for(BALANCE_SPACE, line_search=line_search)

    assert best(search(BALANCE_SPACE, ridge(top), 40, options))[1] > 0.97


@every_search
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
def test_it_is_ahead_of_random_search(
    line_search: str, f: Callable[[Point], float], n: int
) -> None:
    rng = np.random.default_rng(0)
    random_bests = [
        max(f(BALANCE_SPACE.snap(list(u))) for u in rng.random((n, 3))) for _ in range(101)
    ]
    options = [options_for(BALANCE_SPACE, line_search=line_search, seed=s) for s in range(3)]
    bests = [best(search(BALANCE_SPACE, f, n, o))[1] for o in options]

    assert np.mean(bests) > np.mean(random_bests)


@every_search
def test_a_search_goes_on_after_hundreds_of_trials(line_search: str) -> None:
    f, rng = hill((0.3, 0.7, 0.25)), np.random.default_rng(0)
    before = [(p, f(p)) for p in (BALANCE_SPACE.snap(list(u)) for u in rng.random((400, 3)))]
    options = options_for(BALANCE_SPACE, line_search=line_search)
    trials = search(BALANCE_SPACE, f, 20, options, before)

    assert len(set(points([*before, *trials]))) == 420
    assert best(trials)[1] > max(0.999, best(before)[1])
