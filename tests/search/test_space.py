"""Axes, levels and points of a search space."""

from __future__ import annotations

from collections import Counter
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
import pytest

from cbal_optuna.search import Axis
from cbal_optuna.search import Condition
from cbal_optuna.search import Space


pytestmark = pytest.mark.filterwarnings("ignore:The distribution is specified")

# Positions are rounded to millionths: more levels than this are not all told apart.
MANY_LEVELS = 10**4


@st.composite
def floats(draw: st.DrawFn) -> FloatDistribution:
    low = draw(st.floats(-1e6, 1e6))
    width = draw(st.floats(1e-3, 1e6))
    step = draw(st.none() | st.floats(1e-3, 1.0).map(lambda share: share * width))
    return FloatDistribution(low, low + width, step=step)


@st.composite
def log_floats(draw: st.DrawFn) -> FloatDistribution:
    low = draw(st.floats(1e-12, 1e3))
    return FloatDistribution(low, low * draw(st.floats(1.01, 1e12)), log=True)


@st.composite
def ints(draw: st.DrawFn) -> IntDistribution:
    low = draw(st.integers(-(10**9), 10**9))
    step = draw(st.integers(1, 100))
    return IntDistribution(
        low, low + step * draw(st.integers(1, 99) | st.integers(1, 10**9)), step=step
    )


@st.composite
def log_ints(draw: st.DrawFn) -> IntDistribution:
    low = draw(st.integers(1, 10**4))
    return IntDistribution(low, low + draw(st.integers(1, 99) | st.integers(1, 10**9)), log=True)


def categoricals() -> st.SearchStrategy[CategoricalDistribution]:
    ordered = st.lists(st.integers(-99, 99) | st.floats(-1e9, 1e9), min_size=2, unique=True)
    nominal = st.lists(st.text(max_size=3) | st.none(), min_size=2, max_size=40, unique=True)
    return (ordered.map(sorted) | nominal).map(CategoricalDistribution)


AXES = st.one_of(floats(), log_floats(), ints(), log_ints(), categoricals()).map(
    lambda distribution: Axis("x", distribution)
)
AXES = AXES.filter(lambda axis: not axis.distribution.single())
POSITIONS = st.floats(0.0, 1.0)

FEW_LEVELS = [
    IntDistribution(0, 1),
    IntDistribution(-7, 23, step=5),
    IntDistribution(1, 1000, log=True),
    FloatDistribution(0.0, 1.0, step=0.1),
    FloatDistribution(-0.3, 0.9, step=0.3),
    FloatDistribution(0.05, 0.5, step=0.05),
    FloatDistribution(1e6, 1e6 + 1.0, step=1e-3),
    CategoricalDistribution([16, 32, 64, 128]),
    CategoricalDistribution([None, True, "adam", 0.5, float("nan")]),
]


def values_of(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high, step = distribution.low, distribution.high, distribution.step
    assert step is not None
    return [low + k * step for k in range(round((high - low) / step) + 1)]


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a == b or a != a and b != b)


@given(AXES, st.floats(-2.0, 3.0))
def test_snapping_is_idempotent_and_stays_on_the_axis(axis: Axis, position: float) -> None:
    snapped = axis.snap(position)

    assert 0.0 <= snapped <= 1.0
    assert axis.snap(snapped) == snapped
    assert axis.encode(axis.decode(snapped)) == snapped


@given(AXES, POSITIONS)
def test_a_position_decodes_to_a_python_value_of_the_distribution(
    axis: Axis, position: float
) -> None:
    value = axis.decode(position)

    d = axis.distribution
    if isinstance(d, CategoricalDistribution):
        assert value in d.choices
    elif isinstance(d, IntDistribution):
        assert type(value) is int
        assert d.low <= value <= d.high and (value - d.low) % d.step == 0
    elif isinstance(d, FloatDistribution):
        assert type(value) is float
        assert d.low <= value <= d.high


@given(AXES, POSITIONS)
def test_a_value_keeps_its_position_through_a_storage(axis: Axis, position: float) -> None:
    value = axis.decode(position)
    stored = axis.distribution.to_external_repr(axis.distribution.to_internal_repr(value))

    assert axis.encode(stored) == axis.encode(value)


@given(AXES, POSITIONS, st.sampled_from([-1.0, 1.0]))
def test_a_neighbour_is_on_its_side_and_leads_back(
    axis: Axis, position: float, side: float
) -> None:
    if axis.n_levels is None or axis.n_levels > MANY_LEVELS:
        return
    position = axis.snap(position)
    neighbour = axis.neighbour(position, side)

    if neighbour == position:
        assert position == (1.0 if side > 0.0 else 0.0)
    else:
        assert (neighbour - position) * side > 0.0
        assert axis.neighbour(neighbour, -side) == position


@given(AXES, POSITIONS, st.floats(-1.0, 1.0).filter(bool))
def test_a_move_reaches_another_level_where_there_is_one(
    axis: Axis, position: float, change: float
) -> None:
    position = axis.snap(position)
    moved = axis.move(position, change)

    assert axis.snap(moved) == moved
    assert (moved - position) * change >= 0.0
    at_the_end = position == (1.0 if change > 0.0 else 0.0)
    if axis.n_levels is not None and axis.n_levels <= MANY_LEVELS and not at_the_end:
        assert moved != position


@pytest.mark.parametrize("distribution", FEW_LEVELS, ids=str)
def test_every_level_is_reached_from_its_neighbour_and_decodes_to_its_value(
    distribution: BaseDistribution,
) -> None:
    axis = Axis("x", distribution)
    values = values_of(distribution)
    levels = list(axis.levels())

    assert axis.n_levels == len(levels) == len(values)
    assert levels == sorted(set(levels))
    assert (levels[0], levels[-1]) == (0.0, 1.0)
    assert all(same(axis.decode(p), v) for p, v in zip(levels[:-1], values))
    # The last one is the distribution's own upper end, which a sum of steps may miss by rounding.
    assert axis.decode(1.0) == pytest.approx(values[-1], nan_ok=True)


@pytest.mark.parametrize("distribution", FEW_LEVELS, ids=str)
def test_random_positions_are_levels_and_reach_all(distribution: BaseDistribution) -> None:
    axis = Axis("x", distribution)
    drawn = {axis.at_random(u) for u in np.linspace(0.0, 1.0, 20_001)[:-1]}

    assert drawn == set(axis.levels())


@pytest.mark.parametrize(
    "distribution",
    [
        IntDistribution(0, 4),
        FloatDistribution(0.0, 1.0, step=0.25),
        CategoricalDistribution([8, 16, 32, 64, 128]),
        CategoricalDistribution("abcde"),
    ],
    ids=str,
)
def test_levels_are_drawn_equally_often(distribution: BaseDistribution) -> None:
    axis = Axis("x", distribution)
    counts = Counter(axis.at_random((k + 0.5) / 100) for k in range(100))

    assert set(counts.values()) == {20}


@pytest.mark.parametrize(
    "choices, nominal",
    [
        ([32, 64, 128], False),
        ([0.1, 1, 2.5], False),
        ([128, 64, 32], True),
        ([1, 1.0], True),
        ([False, True], True),
        ([0, True], True),
        (["a", "b"], True),
        ([None, 1, 2], True),
        ([0.0, float("nan"), 1.0], True),
    ],
    ids=str,
)
def test_only_increasing_numbers_are_ordered(choices: list[Any], nominal: bool) -> None:
    assert Axis("x", CategoricalDistribution(choices)).nominal is nominal


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(-1e308, 1e308),
        FloatDistribution(-1.7e308, 1.7e308),
        FloatDistribution(1e-300, 1e300, log=True),
        FloatDistribution(5e-324, 1e308, log=True),
        FloatDistribution(0.0, 1e-300),
        FloatDistribution(1e15, 1e15 + 1e3),
        IntDistribution(0, 10**7),
        IntDistribution(-(2**62), 2**62),
        IntDistribution(0, 7 * 10**8, step=7),
        IntDistribution(10**8, 2**62, log=True),
    ],
    ids=str,
)
def test_extreme_ranges_keep_their_ends_and_their_order(distribution: BaseDistribution) -> None:
    axis = Axis("x", distribution)
    positions = [k / 64 for k in range(65)]
    values = [axis.decode(p) for p in positions]

    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    assert values[0] == pytest.approx(distribution.low, rel=1e-12)
    assert values[-1] == pytest.approx(distribution.high, rel=1e-12)
    assert all(a < b for a, b in zip(values, values[1:]))
    assert [axis.encode(v) for v in values] == pytest.approx(positions, abs=1e-6)
    assert all(axis.snap(axis.snap(p)) == axis.snap(p) for p in positions)


@pytest.mark.parametrize("distribution", [IntDistribution(0, 10**7), IntDistribution(0, 2**62)])
def test_levels_too_dense_to_tell_apart_have_no_neighbours(distribution: IntDistribution) -> None:
    axis = Axis("x", distribution)

    assert axis.neighbour(0.5, 1.0) == 0.5
    assert axis.move(0.5, 0.25) == 0.75


@given(st.floats(0.0, 1.0), st.sampled_from(["balance", "temperature", "margin"]))
def test_a_float32_echo_is_the_same_point(position: float, name: str) -> None:
    space = Space.of(
        {
            "balance": FloatDistribution(0.1, 10.0, log=True),
            "temperature": FloatDistribution(0.01, 1.0, log=True),
            "margin": FloatDistribution(0.0, 1.0),
        }
    )
    point = space.snap([position] * 3)
    params = space.decode(point)
    params[name] = float(np.float32(params[name]))

    assert space.encode(params) == point


@pytest.mark.parametrize(
    "changed",
    [
        {"x": -0.1},
        {"x": 1.1},
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": None},
        {"x": "a"},
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": 2.0},
        {"n": 11},
        {"n": 10**400},
        {"b": 48},
        {"b": None},
    ],
    ids=str,
)
def test_a_setting_outside_the_space_has_no_point(changed: dict[str, Any]) -> None:
    space = Space.of(
        {
            "x": FloatDistribution(0.0, 1.0),
            "lr": FloatDistribution(1e-5, 1.0, log=True),
            "n": IntDistribution(0, 10),
            "b": CategoricalDistribution([32, 64]),
        }
    )
    params = {"x": 0.5, "lr": 0.1, "n": 5, "b": 64}

    assert space.encode(params) is not None
    assert space.encode({**params, **changed}) is None
    assert space.encode({n: v for n, v in params.items() if n not in changed}) is None


def test_a_value_between_levels_belongs_to_the_nearest() -> None:
    space = Space.of({"x": FloatDistribution(0.0, 1.0, step=0.25), "n": IntDistribution(0, 10)})

    assert space.encode({"x": 0.3, "n": 6.4}) == (0.25, 0.6)


def test_parameters_of_a_single_value_are_no_axes() -> None:
    space = Space.of(
        {
            "a": FloatDistribution(1.0, 1.0),
            "b": IntDistribution(0, 9, step=10),
            "c": CategoricalDistribution(["only"]),
            "d": IntDistribution(0, 1),
        }
    )

    assert space.names == ["d"]


def test_the_points_of_a_finite_space_are_all_combinations_of_levels() -> None:
    space = Space.of({"n": IntDistribution(0, 2), "b": CategoricalDistribution([32, 64])})

    assert space.size == 6
    assert list(space.points()) == [(n, b) for n in (0.0, 0.5, 1.0) for b in (0.0, 1.0)]


def test_a_space_with_a_continuous_axis_is_infinite() -> None:
    space = Space.of({"n": IntDistribution(0, 2), "x": FloatDistribution(0.0, 1.0)})

    assert space.size == math.inf
    assert list(space.points()) == []


def test_a_log_range_of_two_neighbouring_numbers_has_a_position() -> None:
    axis = Axis("x", FloatDistribution(9.0, math.nextafter(9.0, 10.0), log=True))
    assert axis.encode(9.0) == 0.0
    assert axis.decode(0.5) == 9.0


# Axes that are without effect somewhere

LOSS = CategoricalDistribution(["infonce", "margin", "triplet"])
CONDITIONAL = Space.of(
    {"layers": IntDistribution(1, 4), "loss": LOSS, "views": IntDistribution(1, 5)},
    [Condition("views", "loss", ((0.5, 0.5), (1.0, 1.0)))],
)
TWICE = Space.of(
    {
        "layers": IntDistribution(1, 4),
        "loss": LOSS,
        "views": IntDistribution(1, 5),
        "width": CategoricalDistribution([8, 16]),
    },
    [
        Condition("views", "loss", ((0.5, 0.5), (1.0, 1.0))),
        Condition("width", "layers", ((0.0, 0.4),)),
    ],
)


@pytest.mark.parametrize(("space", "size"), [(CONDITIONAL, 4 * (5 + 2)), (TWICE, 7 * (2 + 2 * 2))])
def test_settings_that_differ_without_effect_are_one_point(space: Space, size: int) -> None:
    points = list(space.points())
    assert len(set(points)) == len(points) == space.size == size


def test_a_setting_need_not_have_what_is_without_effect() -> None:
    point = CONDITIONAL.encode({"layers": 2, "loss": "margin"})
    assert point is not None
    assert point == CONDITIONAL.encode({"layers": 2, "loss": "margin", "views": 5})
    assert CONDITIONAL.idle(point) == {"views"}
    assert CONDITIONAL.encode({"layers": 2, "loss": "infonce"}) is None
    assert CONDITIONAL.encode({"layers": 2, "views": 5}) is None


@given(positions=st.lists(st.tuples(*[st.floats(0.0, 1.0)] * 4), min_size=1, max_size=20))
def test_arrays_of_points_are_pinned_as_points_are(positions: list[tuple[float, ...]]) -> None:
    snapped = TWICE.snap_all(np.array(positions))
    assert np.allclose(snapped, [TWICE.snap(p) for p in positions], atol=1e-6)


def test_a_continuous_axis_with_effect_somewhere_makes_a_space_infinite() -> None:
    unit = FloatDistribution(0.0, 1.0)
    space = Space.of({"loss": LOSS, "x": unit}, [Condition("x", "loss", ((0.0, 0.0),))])
    assert space.size == math.inf


def test_conditions_on_what_is_not_searched_are_left_out() -> None:
    assert Space.of({"loss": LOSS}, [Condition("views", "loss", ((0.5, 0.5),))]).conditions == ()
