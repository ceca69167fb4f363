from __future__ import annotations

import math
from pathlib import Path

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    balance = trial.suggest_float("balance", 0.1, 10.0, log=True)
    temperature = trial.suggest_float("temperature", 0.01, 1.0, log=True)
    batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
    return (
        math.log(balance / 3.0) ** 2
        + math.log(temperature / 0.05) ** 2
        + abs(math.log2(batch_size / 64))
    )


# This copy of the registry. From elsewhere: optunahub.load_module("samplers/coordinate_descent").
module = optunahub.load_local_module(
    package="samplers/coordinate_descent", registry_root=str(Path(__file__).parents[2])
)
sampler = module.CoordinateDescentSampler(
    x0={"balance": 1.0, "temperature": 0.1, "batch_size": 128}, seed=0
)
study = optuna.create_study(sampler=sampler)
study.optimize(objective, n_trials=30)
print(study.best_trial.value, study.best_trial.params)
