"""The point that is recommended after some trials of a search, by one rule for all samplers; kept
in ``DIR/HALF/SAMPLER.recommended.jsonl``, which is to be deleted when the rule changes."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
import json
from multiprocessing import get_context
from pathlib import Path

import optuna
from optuna.trial import create_trial
from problem import decode
from problem import Params
from problem import Problem
from problems import named_problem
from runs import Job
from runs import read
from runs import Run
from tqdm import tqdm


def recommended(study: optuna.Study) -> Params:
    # Environments of other packages have no need of ours.
    from cbal_optuna.summary import recommended_trial

    return recommended_trial(study).params


def values_of_recommended(
    jobs: Collection[Job], folder: Path, counts: Sequence[int], n_processes: int
) -> dict[Job, list[float]]:
    """By job, the values without noise of the points recommended after these numbers of trials."""
    results: dict[Job, list[float]] = {}
    with ProcessPoolExecutor(n_processes, get_context("spawn")) as pool:
        for file in sorted({job.file for job in jobs}):
            own = {job.key: job for job in jobs if job.file == file}
            path = folder / file.with_suffix(".recommended.jsonl")
            known = _read(path, counts)
            runs = [r for r in read(folder / file) if r.key in own]
            missing = [r for r in runs if r.key not in known]
            half = next(iter(own.values())).half
            values = pool.map(partial(_values, half, counts), missing, chunksize=20)
            with path.open("a") as lines:
                for r, v in tqdm(zip(missing, values), f"recommended {file.stem}", len(missing)):
                    lines.write(json.dumps([*r.key, list(counts), v]) + "\n")
                    known[r.key] = v
            results |= {job: known[key] for key, job in own.items() if key in known}
    return results


def study_of(problem: Problem, run: Run, n_trials: int) -> optuna.Study:
    """A study of the first trials of a run."""
    study = optuna.create_study(direction="maximize")
    for positions, value in zip(run.positions[:n_trials], run.observed):
        space = {
            name: (d, position)
            for (name, d), position in zip(problem.space.items(), positions)
            if position is not None
        }
        study.add_trial(
            create_trial(
                params={name: decode(d, position) for name, (d, position) in space.items()},
                distributions={name: d for name, (d, _) in space.items()},
                value=value,
            )
        )
    return study


def _values(half: str, counts: Sequence[int], run: Run) -> list[float]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = named_problem(half, run.problem)
    return [problem.value(recommended(study_of(problem, run, n))) for n in counts]


def _read(path: Path, counts: Sequence[int]) -> dict[tuple[str, int], list[float]]:
    if not path.exists():
        return {}
    lines = map(json.loads, path.read_text().splitlines())
    return {(p, seed): values for p, seed, n, values in lines if n == list(counts)}
