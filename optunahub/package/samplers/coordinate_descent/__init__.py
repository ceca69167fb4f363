from cbal_optuna import CoordinateDescentSampler


__all__ = ["CoordinateDescentSampler"]
