"""How ``benchmarks/batch_size.py`` reads optima off recorded grids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BATCH_SIZES = [64, 128, 256]


@pytest.fixture
def carrying(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__("carrying")


@pytest.fixture
def grid(carrying: ModuleType) -> Callable[[Callable[..., float]], object]:
    """A grid of scores that depend on octaves of balance and temperature, batch size and seed."""

    def make(score: Callable[..., float]) -> object:
        balances, temperatures = 2.0 ** np.arange(7), 2.0 ** np.arange(-6, 1)
        scores = np.array(
            [
                [
                    [[score(x, y, n, seed) for seed in range(3)] for n in BATCH_SIZES]
                    for y in y_axis
                ]
                for x, y_axis in ((x, np.arange(-6.0, 1.0)) for x in np.arange(7.0))
            ]
        )
        return carrying.Grid("temperature", BATCH_SIZES, (balances, temperatures), scores)

    return make


def test_an_optimum_between_the_levels_is_found(carrying: ModuleType, grid) -> None:
    own = grid(lambda x, y, n, seed: 1 - (x - 3.3) ** 2 - (y + 2.8) ** 2)
    for position in carrying.optima(own, own.scores.mean(axis=-1)):
        assert position == pytest.approx([3.3, -2.8], abs=0.02)
        assert carrying.at_edge(own, position) == []


def test_an_optimum_beyond_the_grid_is_said_to_be_at_its_edge(carrying: ModuleType, grid) -> None:
    own = grid(lambda x, y, n, seed: 10 - (x - 8) ** 2 - (y + 3) ** 2)
    position = carrying.optima(own, own.scores.mean(axis=-1))[0]
    assert carrying.at_edge(own, position) == ["balance"]
    assert own.setting(position) == {"balance": 64.0, "temperature": 0.125}


def test_an_optimum_that_moves_with_the_batch_size_is_followed(carrying: ModuleType, grid) -> None:
    own = grid(lambda x, y, n, seed: -((x - np.log2(n) / 2) ** 2) - (y + 3) ** 2)
    positions = carrying.optima(own, own.scores.mean(axis=-1))
    assert np.diff(positions[:, 0]) == pytest.approx(0.5, abs=0.05)
    assert np.diff(carrying.best_balances(own, level=3)) == pytest.approx(0.5, abs=0.01)


def test_nothing_is_lost_where_the_batch_size_plays_no_part(carrying: ModuleType, grid) -> None:
    own = grid(lambda x, y, n, seed: 1 + x - 0.2 * x**2 - (y + 3) ** 2 / 50 + seed / 10)
    assert carrying.losses_between_sizes(own) == pytest.approx(0.0)


def test_what_is_lost_is_the_share_by_which_a_carried_setting_is_worse(
    carrying: ModuleType, grid
) -> None:
    own = grid(lambda x, y, n, seed: 1 - 0.01 * (x - np.log2(n) + 4) ** 2 - (y + 3) ** 2 / 50)
    losses = carrying.losses_between_sizes(own)
    assert losses[0] == pytest.approx([0.0, 0.01, 0.04])
    assert np.diag(losses) == pytest.approx(0.0)


def test_the_balance_alone_loses_nothing_where_only_the_temperature_has_to_move(
    carrying: ModuleType, grid
) -> None:
    own = grid(lambda x, y, n, seed: 1 - (x - 3) ** 2 / 50 - (y + np.log2(n) - 4) ** 2 / 50)
    assert carrying.losses_of_the_balance(own) == pytest.approx(0.0)
    assert carrying.losses_between_sizes(own).max() > 0.05


def test_the_power_that_an_optimum_moves_by_loses_least(carrying: ModuleType, grid) -> None:
    def score(x: float, y: float, n: int, seed: int) -> float:
        return 1 - (x - np.log2(n) + 4) ** 2 / 50 - (y - np.log2(n) + 10) ** 2 / 50

    own = grid(score)
    for to in ("smaller", "larger"):
        losses = [carrying.losses_by_power(own, power)[to][0] for power in (0.0, 0.5, 1.0, 1.5)]
        assert losses[2] == pytest.approx(0.0)
        assert min(losses[:2] + losses[3:]) > 0.005


def test_intervals_of_optima_shrink_to_a_point_without_noise(carrying: ModuleType, grid) -> None:
    own = grid(lambda x, y, n, seed: 1 - (x - 3) ** 2 / 50 - (y + 3) ** 2 / 50 + seed / 10)
    assert carrying.drawn_optima(own).std(axis=0) == pytest.approx(0.0)


def test_intervals_of_optima_cover_what_noise_moves_them_by(carrying: ModuleType, grid) -> None:
    rng = np.random.default_rng(0)
    own = grid(
        lambda x, y, n, seed: 1 - (x - 3) ** 2 / 50 - (y + 3) ** 2 / 50 + 0.005 * rng.normal()
    )
    low, high = np.quantile(carrying.drawn_optima(own), [0.025, 0.975], axis=0)
    assert (low <= [3.0, -3.0]).all() and (high >= [3.0, -3.0]).all()
    assert (high - low < 2.0).all()
