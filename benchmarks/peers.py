"""Searches of other packages at their defaults, behind the interface of ``searchers.py``.

Their packages are imported when they are used. An environment for each is best, as they ask for
different versions of others; what was used is in ``requirements-search.txt``.
Parameters without effect are searched all the same.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution
from problem import decode
from problem import Params
from problem import Problem
from searchers import Searcher
from searchers import StudySearcher


class HEBO:
    """HEBO (Cowen-Rivers et al., 2022)."""

    def __init__(self, problem: Problem, seed: int) -> None:
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO as Search
        import pandas as pd
        import torch

        np.random.seed(seed)
        torch.manual_seed(seed)
        space = DesignSpace().parse([_hebo_axis(n, d) for n, d in problem.space.items()])
        self._search = Search(space, scramble_seed=seed)
        self._start: Any = pd.DataFrame([_complete_start(problem)])

    def ask(self) -> tuple[Any, Params]:
        point, self._start = self._start, None
        if point is None:
            point = self._search.suggest(n_suggestions=1)
        return point, _plain(point.iloc[0].to_dict())

    def tell(self, trial: Any, value: float) -> None:
        self._search.observe(trial, np.array([[-value]]))


class SMAC:
    """SMAC3's facade for hyper-parameter optimisation (Lindauer et al., 2022).

    The start is added to its initial design. Where there is noise it may evaluate a point again.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        from ConfigSpace import Configuration
        from ConfigSpace import ConfigurationSpace
        from smac import HyperparameterOptimizationFacade
        from smac import Scenario

        space = ConfigurationSpace(seed=seed)
        space.add(*(_smac_axis(n, d) for n, d in problem.space.items()))
        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space,
            output_directory=Path(self._folder.name),
            deterministic=problem.noise == 0.0,
            n_trials=60,
            seed=seed,
        )
        start = Configuration(space, values=_complete_start(problem))
        facade = HyperparameterOptimizationFacade
        self._search = facade(
            scenario,
            lambda config, seed=0: 0.0,
            initial_design=facade.get_initial_design(scenario, additional_configs=[start]),
            logging_level=logging.ERROR,
        )

    def ask(self) -> tuple[Any, Params]:
        trial = self._search.ask()
        return trial, _plain(dict(trial.config))

    def tell(self, trial: Any, value: float) -> None:
        from smac.runhistory import TrialValue

        self._search.tell(trial, TrialValue(cost=-value))


class Ax:
    """Ax's client (Bakshy et al., 2018), with BoTorch."""

    def __init__(self, problem: Problem, seed: int) -> None:
        from ax.api.client import Client

        logging.disable(logging.WARNING)
        self._client = Client(random_seed=seed)
        self._client.configure_experiment([_ax_axis(n, d) for n, d in problem.space.items()])
        self._client.configure_optimization("score")
        self._start: Params | None = _complete_start(problem)

    def ask(self) -> tuple[int, Params]:
        if self._start is not None:
            start, self._start = self._start, None
            return self._client.attach_trial(start), start
        ((trial, params),) = self._client.get_next_trials(1).items()
        return trial, dict(params)

    def tell(self, trial: int, value: float) -> None:
        self._client.complete_trial(trial, raw_data={"score": value})


class Hyperopt:
    """Hyperopt's TPE (Bergstra et al., 2013)."""

    def __init__(self, problem: Problem, seed: int) -> None:
        from hyperopt import Domain
        from hyperopt import Trials

        space = {n: _hyperopt_axis(n, d) for n, d in problem.space.items()}
        self._space = problem.space
        self._domain = Domain(lambda params: 0.0, space)
        self._trials = Trials()
        self._rng = np.random.default_rng(seed)
        self._start = _complete_start(problem)

    def ask(self) -> tuple[Any, Params]:
        from hyperopt import tpe

        (number,) = self._trials.new_trial_ids(1)
        seed = int(self._rng.integers(2**31 - 1))
        (trial,) = tpe.suggest([number], self._domain, self._trials, seed)
        values = trial["misc"]["vals"]
        if number == 0:
            for name, d in self._space.items():
                at_start = self._start[name]
                is_choice = isinstance(d, CategoricalDistribution)
                values[name] = [d.choices.index(at_start) if is_choice else at_start]
        return trial, {n: self._value(d, values[n][0]) for n, d in self._space.items()}

    @staticmethod
    def _value(d: Any, value: Any) -> Any:
        if isinstance(d, CategoricalDistribution):
            return d.choices[int(value)]
        value = min(max(float(value), d.low), d.high)
        return round(value) if isinstance(d, IntDistribution) else value

    def tell(self, trial: Any, value: float) -> None:
        from hyperopt import JOB_STATE_DONE
        from hyperopt import STATUS_OK

        trial["state"] = JOB_STATE_DONE
        trial["result"] = {"status": STATUS_OK, "loss": -value}
        self._trials.insert_trial_doc(trial)
        self._trials.refresh()


def auto_sampler(problem: Problem, seed: int) -> Searcher:
    """AutoSampler of OptunaHub, whose registry has to be within reach.

    By its source, in less than 250 trials of one objective it is Optuna's GPSampler where there
    are only floats and ints, and its multivariate TPE where there are categories or conditions,
    after a random point.
    """
    import optunahub

    return StudySearcher(
        problem, optunahub.load_module("samplers/auto_sampler").AutoSampler(seed=seed)
    )


PEERS: dict[str, Callable[[Problem, int], Searcher]] = {
    "AutoSampler": auto_sampler,
    "HEBO": HEBO,
    "SMAC3": SMAC,
    "Ax": Ax,
    "Hyperopt": Hyperopt,
}


def _hebo_axis(name: str, d: Any) -> dict[str, Any]:
    if isinstance(d, CategoricalDistribution):
        return {"name": name, "type": "cat", "categories": list(d.choices)}
    is_int = isinstance(d, IntDistribution)
    kind = {(0, 0): "num", (0, 1): "pow", (1, 0): "int", (1, 1): "pow_int"}[is_int, d.log]
    return {"name": name, "type": kind, "lb": d.low, "ub": d.high}


def _smac_axis(name: str, d: Any) -> Any:
    from ConfigSpace import CategoricalHyperparameter
    from ConfigSpace import OrdinalHyperparameter
    from ConfigSpace import UniformFloatHyperparameter
    from ConfigSpace import UniformIntegerHyperparameter

    if isinstance(d, CategoricalDistribution):
        ordered = all(isinstance(choice, int) for choice in d.choices)
        axis = OrdinalHyperparameter if ordered else CategoricalHyperparameter
        return axis(name, list(d.choices))
    axis = UniformFloatHyperparameter
    if isinstance(d, IntDistribution):
        axis = UniformIntegerHyperparameter
    return axis(name, d.low, d.high, log=d.log)


def _ax_axis(name: str, d: Any) -> Any:
    from ax.api.configs import ChoiceParameterConfig
    from ax.api.configs import RangeParameterConfig

    if isinstance(d, CategoricalDistribution):
        ordered = all(isinstance(choice, int) for choice in d.choices)
        kind = "int" if ordered else "str"
        return ChoiceParameterConfig(name, list(d.choices), kind, is_ordered=ordered)
    return RangeParameterConfig(
        name,
        (d.low, d.high),
        "int" if isinstance(d, IntDistribution) else "float",
        scaling="log" if d.log else "linear",
    )


def _hyperopt_axis(name: str, d: Any) -> Any:
    from hyperopt import hp

    if isinstance(d, CategoricalDistribution):
        return hp.choice(name, list(d.choices))
    if not d.log:
        return hp.uniform(name, d.low, d.high)
    low, high = float(np.log(d.low)), float(np.log(d.high))
    if isinstance(d, IntDistribution):
        return hp.qloguniform(name, low, high, 1)
    return hp.loguniform(name, low, high)


def _complete_start(problem: Problem) -> Params:
    """With the middle of the range for what the start leaves out."""
    return {n: problem.start.get(n, decode(d, 0.5)) for n, d in problem.space.items()}


def _plain(params: Params) -> Params:
    """Without NumPy's types."""
    return {n: v.item() if isinstance(v, np.generic) else v for n, v in params.items()}
