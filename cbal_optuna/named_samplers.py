"""The samplers that a study may be searched with, by name, and their options."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import inspect
from typing import Any

from optuna.samplers import BaseSampler
from optuna.samplers import CmaEsSampler
from optuna.samplers import GPSampler
from optuna.samplers import RandomSampler
from optuna.samplers import TPESampler

from cbal_optuna.objectives import Setting
from cbal_optuna.sampler import CoordinateDescentSampler


_KINDS: dict[str, Callable[..., BaseSampler]] = {
    "cd": CoordinateDescentSampler,
    "tpe": TPESampler,
    "random": RandomSampler,
    "gp": GPSampler,
    "cma": CmaEsSampler,
}
SAMPLERS = tuple(_KINDS)


def named_sampler(name: str, start: Setting, seed: int, options: Mapping[str, Any]) -> BaseSampler:
    """A sampler.

    Args:
        name:
            One of :data:`SAMPLERS`.
        start:
            The searched part of the setting that the search starts from; coordinate descent
            searches the parameters in this order.
        seed:
            Of the sampler.
        options:
            Arguments of the sampler that are numbers, words or switches, in place of its defaults.

    Raises:
        ValueError: The sampler has no such option, or its value is not allowed.
    """
    kind = _KINDS[name]
    defaults = {
        option: parameter.default
        for option, parameter in inspect.signature(kind).parameters.items()
        if isinstance(parameter.default, (bool, int, float, str))
    }
    for option, value in options.items():
        if option not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise ValueError(
                f"`sampler_options` has {option!r}; those of the sampler {name!r} are: {allowed}."
            )
        _check_kind(option, value, type(defaults[option]))
    if name == "cd":
        return CoordinateDescentSampler(x0=start, order=list(start), seed=seed, **options)
    return kind(seed=seed, **options)


def _check_kind(option: str, value: Any, wanted: type) -> None:
    kinds = (int, float) if wanted is float else (wanted,)
    if not isinstance(value, kinds) or isinstance(value, bool) != (wanted is bool):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise ValueError(
            f"`sampler_options` has {option!r} {value!r}; it should be {names[wanted]}."
        )
