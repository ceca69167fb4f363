"""What a study has found, apart from its storage: in plain types, and back from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import fields
import math
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from cbal_optuna.summary import Expectation
from cbal_optuna.summary import NearOptimal
from cbal_optuna.summary import summarize


@dataclass(frozen=True)
class TrialResult:
    """A trial.

    Attributes:
        trial:
            Its number.
        state:
            As Optuna names it, ``"COMPLETE"`` for one.
        value:
            What it has come to, if it has.
        params:
            The setting.
    """

    trial: int
    state: str
    value: float | None
    params: dict[str, Any]

    @classmethod
    def of(cls, trial: FrozenTrial) -> TrialResult:
        """That of a trial with a single objective."""
        return cls(trial.number, trial.state.name, trial.value, trial.params)


@dataclass(frozen=True)
class StudyResult:
    """The result of a study: see :class:`~cbal_optuna.summary.Summary`, whose attributes it has.

    Attributes:
        study:
            The name.
        trials:
            How many there are.
        history:
            All trials, in order.
        gain:
            By which share the recommended setting is expected to be better than the usual one.
    """

    study: str
    trials: int
    history: tuple[TrialResult, ...]
    usual: TrialResult | None = None
    best: TrialResult | None = None
    recommended: TrialResult | None = None
    expected: Expectation | None = None
    usual_expected: Expectation | None = None
    noise: float | None = None
    noise_is_known: bool = False
    tentative: bool = True
    near_optimal: tuple[NearOptimal, ...] = ()
    converged: bool = False
    reason: str = "No trial has a feasible value."
    gain: float | None = None

    @classmethod
    def of(cls, study: Study) -> StudyResult:
        """That of a study with a single objective."""
        history = tuple(map(TrialResult.of, study.get_trials(deepcopy=False)))
        try:
            summary = summarize(study)
        except ValueError:
            return cls(study.study_name, len(history), history)
        found = {name: getattr(summary, name) for name in summary.__dataclass_fields__}
        for name, value in found.items():
            if isinstance(value, FrozenTrial):
                found[name] = TrialResult.of(value)
        return cls(study.study_name, len(history), history, **found, gain=summary.gain)

    def to_dict(self) -> dict[str, Any]:
        """In plain types, as files of YAML or JSON have them; a value that is not finite, which
        JSON has not, as text."""
        plain = asdict(self)
        for trial in (*plain["history"], plain["usual"], plain["best"], plain["recommended"]):
            if trial is not None and trial["value"] is not None:
                trial["value"] = _finite(trial["value"])
        for near in plain["near_optimal"]:
            near["values"] = list(near["values"])
        for name in ("history", "near_optimal"):
            plain[name] = list(plain[name])
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> StudyResult:
        """What :meth:`to_dict` gave.

        Raises:
            ValueError: It did not give this.
        """
        try:
            found = _fields(cls, plain)
            found["history"] = tuple(_trial(trial) for trial in found["history"])
            found["near_optimal"] = tuple(_near_optimal(near) for near in found["near_optimal"])
            for names, make in (
                (("usual", "best", "recommended"), _trial),
                (("expected", "usual_expected"), _expectation),
            ):
                found |= {n: make(found[n]) for n in names if found[n] is not None}
        except (TypeError, ValueError) as error:
            raise ValueError(f"This is no result of a study: {error}.") from error
        return cls(**found)


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _fields(kind: type, plain: Any) -> dict[str, Any]:
    """The arguments of a class, all of them."""
    names = [field.name for field in fields(kind)]
    if not isinstance(plain, Mapping) or set(plain) != set(names):
        raise ValueError(f"it should have {', '.join(names)}")
    return dict(plain)


def _trial(plain: Any) -> TrialResult:
    found = _fields(TrialResult, plain)
    value = found.pop("value")
    return TrialResult(**found, value=None if value is None else float(value))


def _expectation(plain: Any) -> Expectation:
    return Expectation(**{name: float(v) for name, v in _fields(Expectation, plain).items()})


def _near_optimal(plain: Any) -> NearOptimal:
    found = _fields(NearOptimal, plain)
    return NearOptimal(**{**found, "values": tuple(found["values"])})
