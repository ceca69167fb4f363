"""What a suggestion costs: CPU time of ask and tell, into ``results/overhead.json``.

::

    OMP_NUM_THREADS=1 python benchmarks/overhead.py

Three axes, as in the studies; an in-memory storage; samplers interleaved in one process.
"""

from __future__ import annotations

from collections.abc import Callable
import statistics
import time

import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import RandomSampler
from optuna.samplers import TPESampler
from record import RESULTS
from record import write_record

from cbal_optuna import CoordinateDescentSampler


SPACE: dict[str, BaseDistribution] = {
    "balance": FloatDistribution(1 / 8, 64, log=True),
    "temperature": FloatDistribution(0.01, 1.0, log=True),
    "batch_size": CategoricalDistribution((32, 64, 128, 256, 512)),
}
SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "CoordinateDescentSampler": lambda: CoordinateDescentSampler(seed=0),
    "CoordinateDescentSampler, parabolic": lambda: CoordinateDescentSampler(
        line_search="parabolic", seed=0
    ),
    "TPESampler": lambda: TPESampler(seed=0),
    "RandomSampler": lambda: RandomSampler(seed=0),
}
FINISHED = (10, 100, 1_000, 10_000)
ASKS = 30


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results = []
    for n_finished in FINISHED:
        studies = {name: study_of(make(), n_finished) for name, make in SAMPLERS.items()}
        times: dict[str, list[float]] = {name: [] for name in SAMPLERS}
        for _ in range(ASKS):
            for name, study in studies.items():
                start = time.process_time()
                evaluate(study)
                times[name].append(1e3 * (time.process_time() - start))
        medians = {name: round(statistics.median(t), 2) for name, t in times.items()}
        results.append({"finished_trials": n_finished, "median_cpu_ms": medians})
        print(n_finished, medians)
    write_record(RESULTS / "overhead.json", results)


def study_of(sampler: BaseSampler, n_finished: int) -> optuna.Study:
    """A study with up to 300 trials of the sampler itself, the rest of them random."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(min(n_finished, 300)):
        evaluate(study)
    more = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=1))
    for _ in range(n_finished - len(study.trials)):
        evaluate(more)
    study.add_trials(more.trials)
    return study


def evaluate(study: optuna.Study) -> None:
    trial = study.ask(SPACE)
    balance, temperature = trial.params["balance"], trial.params["temperature"]
    batch_size = trial.params["batch_size"]
    study.tell(trial, -((balance - 4) ** 2) - (10 * temperature - 2) ** 2 - batch_size / 512)


if __name__ == "__main__":
    main()
