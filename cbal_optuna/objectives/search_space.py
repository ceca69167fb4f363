"""Which hyper-parameters are searched, over which ranges, and the settings to start from and to
compare with."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import math
import sys
from typing import Any
from typing import ClassVar
from typing import TypeVar

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import distribution_to_json
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import BaseTrial

from cbal_optuna.losses import SplitInfoNCELoss
from cbal_optuna.losses import SplitLoss
from cbal_optuna.losses import SplitMarginLoss
from cbal_optuna.objectives.ranges import plain_range
from cbal_optuna.objectives.ranges import range_of


Setting = dict[str, Any]
SpaceT = TypeVar("SpaceT", bound="SearchSpace")

_LOSSES: dict[str, Callable[..., SplitLoss]] = {
    "infonce": SplitInfoNCELoss,
    "margin": SplitMarginLoss,
}
LOSSES = tuple(_LOSSES)
BATCH_SIZES = (32, 64, 128, 256, 512)

_TRAINING: Setting = {
    "batch_size": CategoricalDistribution(BATCH_SIZES),
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
}
_DEFAULTS: dict[str, Setting] = {
    "infonce": {
        "balance": FloatDistribution(1 / 8, 64, log=True),
        "temperature": FloatDistribution(0.01, 1.0, log=True),
        "denominator": "negatives",
        **_TRAINING,
    },
    "margin": {
        "balance": FloatDistribution(1.0, 4096.0, log=True),
        "margin": FloatDistribution(0.0, 0.8),
        "aggregation": CategoricalDistribution(("all", "nonzero")),
        **_TRAINING,
    },
}
# What people run who do not tune the balance: for the margin loss the mean over active pairs.
_USUAL: dict[str, Setting] = {
    "infonce": {"balance": 1.0, "temperature": 0.1, "batch_size": 128},
    "margin": {"balance": 1.0, "margin": 0.5, "aggregation": "nonzero", "batch_size": 128},
}
# Where the search starts: for the margin loss at a balance fit for the mean over all pairs, which
# is small.
_START: dict[str, Setting] = {
    "infonce": _USUAL["infonce"],
    "margin": {"balance": 256.0, "margin": 0.4, "aggregation": "all", "batch_size": 128},
}


class SearchSpace:
    """The hyper-parameters of a loss and of its training, each searched over a distribution or
    fixed.

    By default balance (1/8 to 64, log), temperature (0.01 to 1, log) and batch size (32 to 512) of
    InfoNCE are searched; of the margin loss balance (1 to 4,096, log), margin (0 to 0.8), batch
    size and aggregation (``"all"`` or ``"nonzero"``). Learning rate and weight decay are fixed.

    Example:
        .. code-block:: python

            SearchSpace(
                "infonce", learning_rate=FloatDistribution(1e-4, 1e-2, log=True), batch_size=128
            )

    Args:
        loss:
            ``"infonce"`` or ``"margin"``.
        parameters:
            By name, an Optuna distribution or a value, in place of the default.

    Raises:
        ValueError: The loss has no such parameter, or a range is not fit for it.
    """

    # In place of those of all losses.
    _own_defaults: ClassVar[Setting] = {}
    _own_usual: ClassVar[Setting] = {}

    def __init__(self, /, loss: str = "infonce", **parameters: Any) -> None:
        if loss not in LOSSES:
            raise ValueError(f"`loss` is {loss!r}; it should be one of {', '.join(LOSSES)}.")
        defaults = {n: self._own_defaults.get(n, p) for n, p in _DEFAULTS[loss].items()}
        for name in parameters.keys() - defaults.keys():
            raise ValueError(
                f"`{name}` is no hyper-parameter of the {loss} loss; it has {', '.join(defaults)}."
            )
        self.loss = loss
        self._parameters = {**defaults, **parameters}
        self.distributions: dict[str, BaseDistribution] = {
            n: p for n, p in self._parameters.items() if isinstance(p, BaseDistribution)
        }
        for name, value in self._parameters.items():
            _check_range(loss, name, value)

    @classmethod
    def from_dict(cls: type[SpaceT], plain: Mapping[str, Any]) -> SpaceT:
        """The space that a file describes.

        Example:
            .. code-block:: python

                SearchSpace.from_dict(
                    {
                        "loss": "infonce",
                        "balance": {"low": 0.5, "high": 32, "log": True},
                        "temperature": 0.1,
                        "batch_size": [32, 64, 128],
                    }
                )

        Args:
            plain:
                The loss, and by name the hyper-parameters that are not as usual: a fixed value, a
                list of choices, or an interval with ``low`` and ``high``, and if need be ``step``,
                ``log`` or ``whole``, for whole numbers.

        Raises:
            ValueError: As for the class, or something is none of these.
        """
        if not isinstance(plain, Mapping):
            raise ValueError(f"The space is {plain!r}; it should have names and values.")
        parameters = {
            str(name): range_of(str(name), value, whole=name == "batch_size")
            for name, value in plain.items()
            if name != "loss"
        }
        return cls(plain.get("loss", "infonce"), **parameters)

    def to_dict(self) -> dict[str, Any]:
        """The loss and all hyper-parameters in plain types, as files of YAML or JSON have them."""
        plain = {name: plain_range(value) for name, value in self._parameters.items()}
        return {"loss": self.loss, **plain}

    @property
    def usual(self) -> Setting:
        """What people run who do not tune: the setting to compare with."""
        return self.nearest({**_USUAL[self.loss], **self._own_usual})

    @property
    def start(self) -> Setting:
        """Where the search starts."""
        return self.nearest({**_START[self.loss], **self._own_usual})

    @property
    def description(self) -> dict[str, Any]:
        """Distributions as Optuna's JSON, and fixed values, by name."""
        return {
            name: distribution_to_json(p) if isinstance(p, BaseDistribution) else p
            for name, p in self._parameters.items()
        }

    @property
    def batch_sizes(self) -> list[int]:
        """All batch sizes, or the lowest and the highest of a range."""
        sizes = self._parameters["batch_size"]
        if isinstance(sizes, CategoricalDistribution):
            return [int(c) for c in sizes.choices]  # type: ignore[arg-type]
        if isinstance(sizes, IntDistribution):
            return [sizes.low, sizes.high]
        return [sizes]

    def suggest(self, trial: BaseTrial) -> Setting:
        """The setting of a trial: every hyper-parameter, searched or fixed."""
        return {
            name: _suggest(trial, name, value) if isinstance(value, BaseDistribution) else value
            for name, value in self._parameters.items()
        }

    def check(self, setting: Mapping[str, Any]) -> None:
        """That it has a value of every hyper-parameter, and of nothing else; raises ValueError."""
        given = [n for n, value in setting.items() if not isinstance(value, BaseDistribution)]
        for verb, wrong in (
            ("lacks", [name for name in self._parameters if name not in given]),
            ("has", [name for name in given if name not in self._parameters]),
        ):
            if wrong:
                raise ValueError(
                    f"`setting` {verb} {', '.join(wrong)}; it should have "
                    f"{', '.join(self._parameters)}."
                )

    def searched(self, setting: Mapping[str, Any]) -> Setting:
        """The part of a setting that is searched."""
        return {name: setting[name] for name in self.distributions}

    def completed(self, searched: Mapping[str, Any]) -> Setting:
        """The setting whose searched part is given."""
        return {**self._parameters, **searched}

    def nearest(self, known: Mapping[str, Any]) -> Setting:
        """The setting of this space that is nearest to known values; without one, the default or
        the middle."""
        defaults = _DEFAULTS[self.loss].items()
        fixed = {n: p for n, p in defaults if not isinstance(p, BaseDistribution)}
        known = {**fixed, **known}
        return {n: _nearest(p, known.get(n)) for n, p in self._parameters.items()}


class SelfSupervisedSpace(SearchSpace):
    """The hyper-parameters of self-supervised learning: as in :class:`SearchSpace`, but with the
    temperature from 0.05 to 2, usually 0.5, and 64 to 1,024 images in a batch, usually 256, with
    two views each.
    """

    _own_defaults = {
        "temperature": FloatDistribution(0.05, 2.0, log=True),
        "batch_size": CategoricalDistribution((64, 128, 256, 512, 1024)),
    }
    _own_usual = {"temperature": 0.5, "batch_size": 256}


def _suggest(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high, log = distribution.low, distribution.high, distribution.log
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, int(low), int(high), step=distribution.step, log=log)
    return trial.suggest_float(name, low, high, step=distribution.step, log=log)


def _nearest(parameter: Any, wanted: Any) -> Any:
    if not isinstance(parameter, BaseDistribution):
        return parameter
    if isinstance(parameter, CategoricalDistribution):
        choices: list[Any] = list(parameter.choices)
        if wanted in choices:
            return wanted
        if not isinstance(wanted, (int, float)):
            return choices[0]
        if min(choices) <= 0:
            return min(choices, key=lambda c: abs(c - wanted))
        return min(choices, key=lambda c: abs(math.log(c / wanted)))
    assert isinstance(parameter, (FloatDistribution, IntDistribution))
    if wanted is None:
        low, high = parameter.low, parameter.high
        wanted = math.sqrt(low * high) if parameter.log else (low + high) / 2
    value = min(max(wanted, parameter.low), parameter.high)
    if parameter.step is None:
        return value
    n_steps = round((value - parameter.low) / parameter.step)
    # A sum in floating point may end just above the range.
    return min(parameter.low + n_steps * parameter.step, parameter.high)


def _check_range(loss: str, name: str, parameter: Any) -> None:
    if isinstance(parameter, CategoricalDistribution):
        values = list(parameter.choices)
    elif isinstance(parameter, (FloatDistribution, IntDistribution)):
        values = [parameter.low, parameter.high]
    elif isinstance(parameter, (int, float, str)):
        values = [parameter]
    else:
        raise ValueError(
            f"`{name}` is {parameter!r}; it should be a number or a word, or a float, int or "
            "categorical distribution of Optuna."
        )
    if name not in ("aggregation", "denominator"):
        _check_numbers(name, parameter, values)
    if name not in _TRAINING:
        for value in values:
            _LOSSES[loss](**{name: value})


def _check_numbers(name: str, parameter: Any, values: list[Any]) -> None:
    """All are positive but for the weight decay and the margin, which the loss checks."""
    kind, kind_name = (int, "whole numbers") if name == "batch_size" else ((int, float), "numbers")
    least = {"margin": -math.inf, "weight_decay": 0.0}.get(name, sys.float_info.min)
    for value in values:
        number = isinstance(value, kind) and not isinstance(value, bool)
        if not number or not least <= value < math.inf:
            raise ValueError(
                f"`{name}` is {parameter!r}; its values should be positive {kind_name}."
            )
