"""What tuning gains on real images, on a CPU: end to end, from scratch, without labels, and, where
frozen features are enough, head-only; writes ``results/real_runs.json``.

::

    OMP_NUM_THREADS=1 python benchmarks/real_runs.py --work-dir DIR --weights DIR --jobs 2 \\
        --cub DIR --omniglot DIR --cifar10 DIR

Each run first chooses the learning rate that suits the usual setting best, then searches at that
rate, and then trains the usual and the recommended setting again with fresh seeds. All trainings
are kept in the work folder as soon as they are done: killed at any time, the same command goes on
from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
import json
from multiprocessing import get_context
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
import sys
from typing import Any

from gains import gain_cells
from gains import intervals_of
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage
from record import RESULTS
from record import write_record
from tables import rst_table
import torch

from cbal_optuna import summarize
from cbal_optuna.data import CIFAR10
from cbal_optuna.data import CUB200
from cbal_optuna.data import LabelledImages
from cbal_optuna.data import Omniglot
from cbal_optuna.objectives import Objective
from cbal_optuna.objectives import Outcome
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.objectives import SelfSupervisedObjective
from cbal_optuna.objectives import SelfSupervisedSpace
from cbal_optuna.objectives import TEST
from cbal_optuna.objectives import VALIDATION
from cbal_optuna.retraining import compare_settings
from cbal_optuna.storage import open_storage
from cbal_optuna.study import load_or_create
from cbal_optuna.study import open_study
from cbal_optuna.study import run_trials
from cbal_optuna.study import run_usual
from cbal_optuna.study import USABLE
from cbal_optuna.training import Augmentation
from cbal_optuna.training import RANDOM
from cbal_optuna.training import TrainingOptions


END_TO_END = "end to end"
HEAD_ONLY = "head only"
FROM_SCRATCH = "from scratch"
WITHOUT_LABELS = "without labels"
RETRIEVAL = {"cub": CUB200, "omniglot": Omniglot}
METRICS = {"map_at_r": "MAP@R", "knn_accuracy": "kNN accuracy"}
# Characters turn into others when mirrored.
AUGMENTATIONS = {
    "cub": Augmentation(),
    "omniglot": Augmentation(min_area=0.6, rotation=15.0, flip=False),
}


@dataclass(frozen=True)
class Run:
    """A search, and the comparison that follows it.

    Args:
        dataset:
            The option that names its folder.
        backbone, image_size, embedding_dim:
            The model, and the side of its images in pixels.
        trained:
            What is trained: :data:`END_TO_END` or :data:`HEAD_ONLY`, from ImageNet weights,
            :data:`FROM_SCRATCH`, or :data:`WITHOUT_LABELS`, which is from scratch too.
        samples, n_trials:
            Images seen in a training, and trials of the search.
        batch_sizes, learning_rates:
            To choose from: in the search, and for the usual setting before it.
    """

    dataset: str
    backbone: str
    image_size: int
    embedding_dim: int
    trained: str
    samples: int
    n_trials: int
    batch_sizes: tuple[int, ...]
    learning_rates: tuple[float, ...]


def _birds(backbone: str) -> Run:
    # With 3e-5 the usual setting has 0.231 (mobilenetv2) and 0.266 (lite0), less than with 1e-4.
    rates = (1e-4, 3e-4, 1e-3)
    return Run("cub", backbone, 128, 128, END_TO_END, 2_048, 10, (16, 32, 64, 128), rates)


def _birds_by_head(backbone: str) -> Run:
    rates = (3e-5, 1e-4, 3e-4, 1e-3)
    return Run("cub", backbone, 128, 128, HEAD_ONLY, 20_000, 25, (32, 64, 128, 256, 512), rates)


RUNS = {
    "cub200-lite0": _birds("tf_efficientnet_lite0"),
    "cub200-mobilenetv2": _birds("mobilenetv2_100"),
    "cifar10-ssl": Run(
        dataset="cifar10",
        backbone="test_resnet",
        image_size=32,
        embedding_dim=64,
        trained=WITHOUT_LABELS,
        samples=40_000,
        n_trials=12,
        batch_sizes=(64, 128, 256, 512),
        learning_rates=(1e-3, 3e-3, 1e-2),
    ),
    "omniglot": Run(
        dataset="omniglot",
        backbone="test_resnet",
        image_size=48,
        embedding_dim=64,
        trained=FROM_SCRATCH,
        samples=10_000,
        n_trials=12,
        batch_sizes=(32, 64, 128, 256, 512),
        learning_rates=(3e-3, 1e-2, 3e-2),
    ),
    "cub200-lite0-head": _birds_by_head("tf_efficientnet_lite0"),
    "cub200-mobilenetv2-head": _birds_by_head("mobilenetv2_100"),
}


def main() -> None:
    options = parsed()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options.work_dir.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in options.only or RUNS if getattr(options, RUNS[name].dataset)]
    failed = perform(wanted, options)
    if failed:
        sys.exit(f"failed, to be gone on with by the same command: {', '.join(failed)}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--work-dir", type=Path, required=True, metavar="DIR", help="where trainings are kept")
    add("--weights", type=Path, metavar="DIR", help="files BACKBONE.*.safetensors of ImageNet")
    add("--cub", type=Path, metavar="DIR", help="CUB-200; runs without a folder are left out")
    add("--omniglot", type=Path, metavar="DIR", help="Omniglot")
    add("--cifar10", type=Path, metavar="DIR", help="CIFAR-10, the binary version")
    add("--only", nargs="+", choices=RUNS, metavar="NAME", help=f"of {', '.join(RUNS)}")
    add("--seeds", type=int, default=3, metavar="N", help="fresh ones (default: %(default)s)")
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time")
    return parser.parse_args()


def perform(names: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Perform runs, each in a process; gives the names of those that failed.

    The results so far are written whenever a run is done.
    """
    waiting, failed = list(names), []
    running: dict[int, tuple[str, BaseProcess]] = {}
    while waiting or running:
        while waiting and len(running) < options.jobs:
            name = waiting.pop(0)
            process: BaseProcess = get_context("spawn").Process(
                target=perform_one, args=(name, options), daemon=True
            )
            process.start()
            running[process.sentinel] = name, process
        for sentinel in wait(list(running)):
            assert isinstance(sentinel, int)
            name, process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                failed.append(name)
        write_results(options.work_dir)
    return failed


def perform_one(name: str, options: argparse.Namespace) -> None:
    """Perform a run, or what is left of it, and write its result into the work folder: first that
    on the test part, then with that on the validation part."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(f"sqlite:///{options.work_dir / name}.db")
    for result in results_of(name, RUNS[name], storage, options):
        (options.work_dir / f"{name}.json").write_text(json.dumps(result))


def results_of(
    name: str, run: Run, storage: BaseStorage, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    rates = values_of_rates(name, run, storage, options)
    rate = max(rates, key=lambda r: rates[r])
    objective = objective_of(
        run,
        options,
        batch_size=CategoricalDistribution(run.batch_sizes),
        learning_rate=rate,
    )
    study = open_study(name, storage, objective, "cd", seed=0)
    run_trials(study, objective, run.n_trials)
    run_usual(study, objective)
    summary = summarize(study)
    assert summary.usual is not None
    usual, best = summary.usual.params, summary.recommended.params
    result: dict[str, Any] = {
        "run": name,
        **asdict(run),
        "device": "cpu",
        "objective": study.user_attrs["objective"],
        "usual_by_learning_rate": rates,
        "learning_rate": rate,
        "trials": [
            {"params": t.params, "value": t.value} for t in study.get_trials(states=USABLE)
        ],
        "usual": {"params": usual, "value": summary.usual.value},
        "best": {"params": best, "value": summary.recommended.value},
        "fresh_seeds": [],
    }
    for part in (TEST, VALIDATION):
        compared = compare_settings(
            objective, storage, name, usual, best, part=part, n_seeds=options.seeds
        )
        own = {"evaluated_on": compared.evaluated_on, **intervals_of(compared)}
        result["fresh_seeds"].insert(0, own)
        yield result


def values_of_rates(
    name: str, run: Run, storage: BaseStorage, options: argparse.Namespace
) -> dict[float, float]:
    """The usual setting at each learning rate, on the validation part, with the search's seed."""
    searched = objective_of(run, options, batch_size=CategoricalDistribution(run.batch_sizes))
    usual = searched.space.searched(searched.space.usual)
    rates = list(run.learning_rates)
    objective = objective_of(
        run, options, **{**usual, "learning_rate": CategoricalDistribution(rates)}
    )
    study = load_or_create(f"{name}.learning_rate", storage, objective)

    def values() -> dict[float, float]:
        trials = study.get_trials(states=USABLE)
        return {t.params["learning_rate"]: t.value for t in trials if t.value is not None}

    while missing := [rate for rate in rates if rate not in values()]:
        study.enqueue_trial({"learning_rate": missing[0]})
        run_trials(study, objective, len(study.get_trials(states=USABLE)) + 1)
    return values()


def objective_of(run: Run, options: argparse.Namespace, **space: Any) -> Objective[Outcome]:
    arguments: dict[str, Any] = {
        "backbone": run.backbone,
        "weights": weights_of(run, options),
        "image_size": run.image_size,
        "embedding_dim": run.embedding_dim,
        "training": training_of(run),
        "device": "cpu",
        "on_step": end_with_parent,
    }
    folder = getattr(options, run.dataset)
    if run.trained == WITHOUT_LABELS:
        return SelfSupervisedObjective(
            CIFAR10(folder), space=SelfSupervisedSpace(**space), **arguments
        )
    make: Callable[[Path], LabelledImages] = RETRIEVAL[run.dataset]
    return RetrievalObjective(
        make(folder),
        space=SearchSpace(**space),
        head_only=run.trained == HEAD_ONLY,
        augmentation=AUGMENTATIONS[run.dataset],
        **arguments,
    )


def training_of(run: Run) -> TrainingOptions:
    """Short trainings of pretrained weights are better with their own statistics in BatchNorm
    (usual setting, lite0: MAP@R 0.26 against 0.15), and then may go in micro-batches."""
    training = TrainingOptions(samples=run.samples, n_evaluations=1)
    if run.trained == END_TO_END:
        return replace(training, batch_norm="frozen", micro_batch=32)
    return training


def weights_of(run: Run, options: argparse.Namespace) -> Path | str:
    if run.trained in (FROM_SCRATCH, WITHOUT_LABELS):
        return RANDOM
    (file,) = options.weights.glob(f"{run.backbone}.*.safetensors")
    return file


def end_with_parent() -> None:
    """End a training that nobody waits for: otherwise the next runner would find a rival."""
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt


def write_results(work_dir: Path) -> None:
    """Of all runs that are done, whichever call performed them."""
    files = [work_dir / f"{name}.json" for name in RUNS]
    results = [json.loads(file.read_text()) for file in files if file.exists()]
    write_record(RESULTS / "real_runs.json", results)
    print(readme_table(results))


def readme_table(results: list[dict[str, Any]]) -> str:
    """What was searched for, on fresh seeds, as a table in reStructuredText."""
    head = ["Data, backbone", "Trained", "Samples", "Trials", "Evaluated on"]
    rows = [[*head, "Usual", "Tuned", "Difference", "Gain"]]
    for result in results:
        name = result["objective"]["dataset"]
        what = [
            f"{name} {result['image_size']} px, {result['backbone']}",
            result["trained"],
            f"{result['samples']:,}",
            str(result["n_trials"]),
        ]
        for compared in result["fresh_seeds"]:
            metric, intervals = next(iter(compared["metrics"].items()))
            evaluated = f"{compared['evaluated_on']}, {METRICS[metric]}"
            rows.append([*what, evaluated, *gain_cells(intervals)])
    return rst_table(rows)


if __name__ == "__main__":
    main()
