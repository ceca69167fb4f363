from __future__ import annotations

from cbal_optuna.sampler import CoordinateDescentSampler


__all__ = ["CoordinateDescentSampler"]
