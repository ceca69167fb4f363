"""Ranges of hyper-parameters in plain types, as files have them: a number or a word is fixed, of a
list one is chosen, and ``{low: 0.5, high: 32, log: true}`` is an interval."""

from __future__ import annotations

from collections.abc import Mapping
import sys
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution


_KEYS = ("low", "high", "step", "log", "whole")
# Above it, numbers in floating point are not distinct.
_LARGEST_WHOLE = 2**53


def plain_range(parameter: Any) -> Any:
    """A distribution or a fixed value in plain types."""
    if isinstance(parameter, CategoricalDistribution):
        return list(parameter.choices)
    if not isinstance(parameter, (FloatDistribution, IntDistribution)):
        return parameter
    plain: dict[str, Any] = {"low": parameter.low, "high": parameter.high}
    if parameter.log:
        plain["log"] = True
    elif parameter.step is not None:
        plain["step"] = parameter.step
    if isinstance(parameter, IntDistribution):
        plain["whole"] = True
    return plain


def range_of(name: str, plain: Any, *, whole: bool = False) -> Any:
    """The distribution or the fixed value.

    Args:
        name:
            Of the hyper-parameter, for errors.
        plain:
            As :func:`plain_range` gives it.
        whole:
            Whether an interval is of whole numbers, if it does not say so itself.

    Raises:
        ValueError: It is no such thing.
    """
    if isinstance(plain, Mapping):
        return _interval(name, plain, whole)
    choices = plain if isinstance(plain, (list, tuple)) else [plain]
    if not choices or not all(isinstance(c, (bool, int, float, str)) for c in choices):
        raise ValueError(
            f"`{name}` is {plain!r}; it should be a number or a word, a list of them, or an "
            "interval like {low: 0.5, high: 32, log: true}."
        )
    if isinstance(plain, (list, tuple)):
        return CategoricalDistribution(tuple(plain))
    return plain


def _interval(
    name: str, plain: Mapping[str, Any], whole: bool
) -> FloatDistribution | IntDistribution:
    for key, value in plain.items():
        if key not in _KEYS:
            raise ValueError(
                f"`{name}` has {key!r}; an interval should have low and high, and may have step, "
                "log and whole."
            )
        _check_bound(name, key, value)
    if "low" not in plain or "high" not in plain:
        raise ValueError(f"`{name}` is {plain!r}; an interval should have low and high.")
    arguments = {**plain}
    whole = arguments.pop("whole", whole)
    if whole and not all(
        isinstance(value, int) and abs(value) <= _LARGEST_WHOLE for value in arguments.values()
    ):
        raise ValueError(
            f"`{name}` is {plain!r}; its interval should be of whole numbers up to "
            f"{_LARGEST_WHOLE}."
        )
    try:
        return (IntDistribution if whole else FloatDistribution)(**arguments)
    # Optuna divides by the step in decimals, which may have too many digits.
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"`{name}` is {plain!r}, no interval: {error}") from error


def _check_bound(name: str, key: str, value: Any) -> None:
    if key in ("log", "whole"):
        allowed, fits = "true or false", isinstance(value, bool)
    else:
        allowed, fits = "a number", isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = fits and abs(value) <= sys.float_info.max
    if not fits:
        raise ValueError(f"`{key}` of `{name}` is {value!r}; it should be {allowed}.")
