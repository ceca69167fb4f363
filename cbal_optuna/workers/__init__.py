"""Several processes, on one machine or by Ray on many, that share studies with one another and
with those of other machines."""

from __future__ import annotations

from cbal_optuna.workers.cluster import Cluster
from cbal_optuna.workers.cluster import connect
from cbal_optuna.workers.cluster import RayWorkers
from cbal_optuna.workers.places import Place
from cbal_optuna.workers.places import places
from cbal_optuna.workers.pool import NoWorkerError
from cbal_optuna.workers.pool import TrialSource
from cbal_optuna.workers.pool import WorkerPool
from cbal_optuna.workers.pool import Workers
from cbal_optuna.workers.ray_driver import LOCAL
from cbal_optuna.workers.study_trials import run_trials_with
from cbal_optuna.workers.trainings import train_with


__all__ = [
    "Cluster",
    "LOCAL",
    "NoWorkerError",
    "Place",
    "RayWorkers",
    "TrialSource",
    "WorkerPool",
    "Workers",
    "connect",
    "places",
    "run_trials_with",
    "train_with",
]
