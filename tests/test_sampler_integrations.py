"""The sampler in Ray Tune, on Dask and in distributed PyTorch; what is not installed is skipped.

This file is also the program of each rank: ``test_sampler_integrations.py RANK FOLDER``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import json
import math
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
import pytest

from cbal_optuna import CoordinateDescentSampler


pytestmark = pytest.mark.filterwarnings("ignore")

X0 = {"balance": 1.0, "temperature": 0.1, "batch_size": 128}
SPACE = {
    "balance": FloatDistribution(0.1, 10.0, log=True),
    "temperature": FloatDistribution(0.01, 1.0, log=True),
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
}


def loss_of(params: dict[str, Any]) -> float:
    return (
        math.log(params["balance"] / 3.0) ** 2
        + math.log(params["temperature"] / 0.05) ** 2
        + 0.2 * abs(math.log2(params["batch_size"] / 64))
    )


def points_of(trials: Sequence[FrozenTrial]) -> list[tuple[Any, ...]]:
    return [tuple(trial.params[name] for name in SPACE) for trial in trials]


def points_in_one_go(n_trials: int) -> list[tuple[Any, ...]]:
    study = optuna.create_study(sampler=CoordinateDescentSampler(x0=X0, seed=0))
    for _ in range(n_trials):
        trial = study.ask(SPACE)
        study.tell(trial, loss_of(trial.params))
    return points_of(study.trials)


# Ray Tune


@pytest.fixture
def optuna_search() -> Callable[..., Any]:
    search = pytest.importorskip("ray.tune.search.optuna").OptunaSearch
    return lambda: search(
        SPACE, metric="loss", mode="min", sampler=CoordinateDescentSampler(x0=X0, seed=0)
    )


def test_ray_tune_is_given_the_same_points(optuna_search: Callable[..., Any]) -> None:
    searcher = optuna_search()
    for i in range(20):
        config = searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), {"loss": loss_of(config)})

    assert points_of(searcher._ot_study.trials) == points_in_one_go(20)


def test_ray_tune_goes_on_from_a_file(optuna_search: Callable[..., Any], tmp_path: Path) -> None:
    searcher = optuna_search()
    for i in range(20):
        if i % 5 == 0:
            searcher.save(str(tmp_path / "searcher"))
            searcher = optuna_search()
            searcher.restore(str(tmp_path / "searcher"))
        config = searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), {"loss": loss_of(config)})

    assert points_of(searcher._ot_study.trials) == points_in_one_go(20)


def test_ray_tune_runs_trials_in_parallel(
    optuna_search: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, tune = pytest.importorskip("ray"), pytest.importorskip("ray.tune")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")

    # Nested, so that it is pickled as it is: the workers cannot import this file.
    def train(config: dict[str, Any]) -> None:
        if config["batch_size"] == 256:
            raise MemoryError
        tune.report({"loss": (config["balance"] - 3.0) ** 2 + config["temperature"]})

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        searcher = tune.search.ConcurrencyLimiter(optuna_search(), max_concurrent=2)
        results = tune.Tuner(
            train,
            tune_config=tune.TuneConfig(search_alg=searcher, num_samples=14),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()
    finally:
        ray.shutdown()
    trials = searcher.searcher._ot_study.trials
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]

    assert points_of(trials)[0] == tuple(X0.values())
    assert len(results) == len(trials) == 14
    assert all(trial.state.is_finished() for trial in trials)
    assert len(set(points_of(completed))) == len(completed) > 7
    assert results.get_best_result("loss", "min").metrics["loss"] < completed[0].value


# Dask


def test_two_dask_workers_evaluate_no_point_twice() -> None:
    distributed = pytest.importorskip("distributed")
    integration = pytest.importorskip("optuna_integration")

    # Nested, so that it is pickled as it is: the workers cannot import this file.
    def objective(trial: Trial) -> float:
        balance = trial.suggest_float("balance", 0.1, 10.0, log=True)
        batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
        return (balance - 3.0) ** 2 + float(batch_size == 128)

    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        storage = integration.DaskStorage(client=client)
        study = optuna.create_study(storage=storage, sampler=CoordinateDescentSampler(seed=0))
        runs = [client.submit(study.optimize, objective, n_trials=8, pure=False) for _ in "ab"]
        distributed.wait(runs)
        errors = [run.exception() for run in runs]
        trials, best = study.trials, study.best_value

    assert errors == [None, None]
    assert [trial.number for trial in trials] == list(range(16))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({tuple(trial.params.values()) for trial in trials}) == 16
    assert best < 0.1


# PyTorch, distributed


def suggest(trial: Any) -> dict[str, Any]:
    return {
        "balance": trial.suggest_float("balance", 0.1, 10.0, log=True),
        "temperature": trial.suggest_float("temperature", 0.01, 1.0, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
    }


def run_rank(rank: int, folder: str) -> None:
    from optuna_integration import TorchDistributedTrial
    import torch.distributed as dist

    seen = []

    def objective(trial: Trial | None) -> float:
        seen.append(suggest(TorchDistributedTrial(trial)))
        return loss_of(seen[-1])

    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    if rank == 0:
        study = optuna.load_study(
            study_name="ranks",
            storage=f"sqlite:///{folder}/study.db",
            sampler=CoordinateDescentSampler(x0=X0, seed=0),
        )
        study.optimize(objective, n_trials=20)
    else:
        for _ in range(20):
            objective(None)
    Path(folder, f"{rank}.json").write_text(json.dumps(seen))
    dist.barrier()
    # An ordinary end would let gloo abort the process now and then.
    os._exit(0)


def test_the_ranks_of_a_distributed_trial_see_its_point(tmp_path: Path) -> None:
    pytest.importorskip("optuna_integration")
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="ranks", storage=storage)
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-W", "ignore", __file__]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment)
        for rank in range(2)
    ]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    params = [trial.params for trial in study.trials]

    assert seen[0] == seen[1]
    # Floats arrive in single precision.
    assert seen[0] == [
        {name: float(np.float32(p[name])) for name in ("balance", "temperature")}
        | {"batch_size": p["batch_size"]}
        for p in params
    ]
    assert seen[0] != params
    assert len(set(points_of(study.trials))) == 20
    assert study.best_value < 0.01


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), sys.argv[2])
