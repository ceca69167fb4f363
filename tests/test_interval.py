"""Means with their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cbal_optuna.interval import Interval


def test_interval_is_students() -> None:
    interval = Interval.of(np.array([1.0, 2.0, 3.0]))
    # The 97.5 % quantile of Student's t with two degrees of freedom is 4.303.
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert not interval.excludes_zero


def test_one_value_has_no_interval() -> None:
    interval = Interval.of(np.array([1.0]))
    assert interval.half_width == math.inf
    assert str(interval) == "1.0000"
