"""Model-free coordinate descent: steps, restarts and points from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import itertools
import math
from typing import Any

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

from . import problems
from .problems import BALANCE_SPACE
from .problems import best
from .problems import hill
from .problems import points
from .problems import Trial
from .problems import UNIT_SQUARE


LINE = Space.of({"x": FloatDistribution(0.0, 1.0)})


def options_for(space: Space, start: Point | None = None, **changes: Any) -> DescentOptions:
    return problems.options_for(space, start, line_search="parabolic", **changes)


def search(
    space: Space,
    f: Callable[[Point], float],
    n: int,
    options: DescentOptions | None = None,
    before: Collection[Trial] = (),
) -> list[Trial]:
    return problems.search(space, f, n, options or options_for(space), before)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_axes_are_searched_in_the_order_given(order: tuple[int, ...]) -> None:
    options = options_for(BALANCE_SPACE, order=order)
    trials = points(search(BALANCE_SPACE, lambda point: 0.0, 11, options))

    changed = [[j for j in range(3) if p[j] != options.start[j]] for p in trials[1:]]
    searched = [j for j, _ in itertools.groupby(changed)]
    assert searched == [[j] for j in order]


@pytest.mark.parametrize("initial_step", [0.05, 0.1, 0.25, 1.0])
@pytest.mark.parametrize(
    "distribution",
    [
        IntDistribution(0, 1),
        IntDistribution(3, 30, step=9),
        CategoricalDistribution([16, 32, 64, 128, 256]),
        CategoricalDistribution([None, True, "adam", 0.5, float("nan")]),
    ],
    ids=str,
)
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
    trials = search(LINE, lambda p: -((p[0] - 0.9) ** 2), 6)

    # Up, up to the bound, back by two golden sections; then half of the move of 0.4 from there.
    assert [x for (x,), _ in trials] == pytest.approx(
        [0.5, 0.75, 1.0, 0.905, 0.845, 0.702], abs=1e-3
    )


def test_points_under_way_are_not_better_than_a_history_without_any_usable_point() -> None:
    history = History([(0, (0.5,), -math.inf)])
    pending = {(0.75,)}

    assert next_point(history, pending, LINE, options_for(LINE)).point == (0.25,)


def test_a_converged_descent_starts_again_elsewhere() -> None:
    near, far = hill((0.3,), 0.2), hill((0.9,), 0.1)
    options = options_for(LINE, (0.25,))
    trials = search(LINE, lambda p: near(p) + 3.0 * far(p), 100, options)

    assert best(trials[:10])[1] == pytest.approx(1.0, abs=0.01)
    assert best(trials)[1] == pytest.approx(3.0, abs=0.03)


def test_a_later_descent_stays_where_it_starts() -> None:
    trials = points(search(UNIT_SQUARE, hill((0.4, 0.4), 1.0), 50))
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
    after = search(BALANCE_SPACE, f, 5, before=[*before, (worse, f(worse))])

    assert points(after) == points(search(BALANCE_SPACE, f, 15))[10:]


def test_the_trials_of_another_search_are_taken_up() -> None:
    f, rng = hill((0.1, 0.9, 0.5), 0.2), np.random.default_rng(0)
    foreign = [BALANCE_SPACE.snap(list(rng.random(3))) for _ in range(40)]
    history = [(point, f(point)) for point in foreign]
    trials = search(BALANCE_SPACE, f, 3, before=history)

    # Its own start comes first, as it would without them.
    assert trials[0][0] == options_for(BALANCE_SPACE).start
    assert all(sum(map(float.__ne__, p, best(history)[0])) == 1 for p in points(trials[1:]))


def test_hundreds_of_trials_are_replayed() -> None:
    f = hill((0.3, 0.7, 0.25))
    trials = search(BALANCE_SPACE, f, 300)

    assert len(set(points(trials))) == 300
