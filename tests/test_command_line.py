from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import os
from pathlib import Path
import re
import signal
import sqlite3
import subprocess
import sys
from tempfile import TemporaryDirectory
import time

import numpy as np
import optuna
from optuna.trial import TrialState
from PIL import Image
import pytest
import timm
import torch
from torch import Tensor
import torch._inductor.config

from cbal_optuna import convergence
from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.command_line.objectives import fill_in_defaults
from cbal_optuna.command_line.options import parser_of
from cbal_optuna.data import Digits
from cbal_optuna.data import LabelledImages
from cbal_optuna.objectives import objective
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import Setting
from cbal_optuna.summary import summarize
from cbal_optuna.summary import Summary
from cbal_optuna.training import EmbeddingModel
from cbal_optuna.training import HeadOnly


STUDIES = Path(__file__).parents[1] / "studies"
QUICK = ["--head-only", "--backbone", "test_resnet", "--samples", "512", "--confirm", "0"]

Result = tuple[int, str, str]


@pytest.fixture
def run(
    colours: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Result]:
    """Runs a study of the tiny data set: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))
    script = StudyScript(
        name="tiny",
        description="Tiny.",
        dataset=lambda options: colours,
        defaults={
            "backbone": "test_resnet",
            "weights": "random",
            "image_size": 32,
            "head_only": True,
            "embedding_dim": 8,
            "samples": 512,
            "batch_sizes": (8, 16, 32),
            "confirm": 2,
        },
    )

    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as exit:
            main(script, arguments)
        printed = capsys.readouterr()
        return exit.value.code, printed.out, printed.err  # type: ignore[return-value]

    return run


def test_a_study_ends_with_a_table_a_report_and_the_next_command(
    run: Callable[..., Result], add_best: Callable[..., None], tmp_path: Path
) -> None:
    run("--n-trials", "2", "--confirm", "0")
    add_best(optuna.load_study(study_name="tiny", storage="sqlite:///tiny.db"))
    status, out, err = run("--n-trials", "8", "--final")
    assert status == 0
    for words in (
        "usual",
        "luck included",
        "expected within 1 % of the recommended",
        "Validation classes, 2 fresh seeds",
    ):
        assert words in out
    assert "Test classes, 5 fresh seeds" in out
    assert "python -m cbal_optuna dashboard sqlite:///tiny.db" in out
    assert "8/8" in err and "best=" in err
    assert "test classes" in (tmp_path / "tiny.html").read_text().lower()
    names = optuna.get_all_study_names("sqlite:///tiny.db")
    assert sorted(names) == ["tiny", "tiny.test", "tiny.validation"]
    study = optuna.load_study(study_name="tiny", storage="sqlite:///tiny.db")
    assert study.metric_names == ["MAP@R"]
    note = study._storage.get_study_system_attrs(study._study_id)["dashboard:note_str:0"]
    assert "8 trials: 8 completed." in note and "Test classes, 5 fresh seeds" in note


def test_a_study_that_finds_nothing_better_says_so(run: Callable[..., Result]) -> None:
    _, out, _ = run("--n-trials", "1")
    assert "No setting is expected to be better than the usual one (trial 0)." in out
    assert optuna.get_all_study_names("sqlite:///tiny.db") == ["tiny"]


def test_running_again_resumes_or_shows_the_result(run: Callable[..., Result]) -> None:
    run("--n-trials", "2")
    _, first, _ = run("--n-trials", "4")
    _, second, _ = run("--n-trials", "4")
    assert first == second
    assert len(optuna.load_study(study_name="tiny", storage="sqlite:///tiny.db").trials) == 4


@pytest.mark.parametrize(("arguments", "n_trials"), [((), 5), (("--stop-when-converged",), 3)])
def test_a_study_stops_when_it_has_converged_if_asked_to(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    n_trials: int,
) -> None:
    def at_once(study: optuna.Study) -> Summary:
        return replace(summarize(study), converged=True)

    monkeypatch.setattr(convergence, "summarize", at_once)
    status, out, err = run("--n-trials", "5", "--confirm", "0", *arguments)
    assert status == 0
    assert f"tiny: {n_trials} trials: {n_trials} completed" in out
    assert f"{n_trials}/5" in err


@pytest.mark.parametrize(("given", "largest"), [("auto", 32), ("whole", 32), ("12", 12)])
def test_the_micro_batch_is_that_of_the_trainings(
    run: Callable[..., Result], given: str, largest: int
) -> None:
    run("--n-trials", "3", "--confirm", "0", "--batch-sizes", "32", "--micro-batch", given)
    study = optuna.load_study(study_name="tiny", storage="sqlite:///tiny.db")
    assert {trial.user_attrs["micro_batch"] for trial in study.trials} == {largest}


def test_a_study_may_be_without_weight_decay(run: Callable[..., Result]) -> None:
    run("--n-trials", "1", "--weight-decay", "0")
    (study,) = optuna.get_all_study_summaries("sqlite:///tiny.db")
    assert study.user_attrs["objective"]["space"]["weight_decay"] == 0


def test_a_study_goes_on_with_another_micro_batch(run: Callable[..., Result]) -> None:
    run("--n-trials", "1", "--confirm", "0")
    status, _, err = run("--n-trials", "2", "--confirm", "0", "--micro-batch", "8")
    assert status == 0, err


def test_the_same_command_goes_on_in_the_middle_of_a_training(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    inputs = HeadOnly.training_inputs

    def interrupted_before_step_12(regime: HeadOnly, items: np.ndarray) -> Tensor:
        steps.append(len(items))
        if len(steps) == 12:
            signal.raise_signal(signal.SIGTERM)
        return inputs(regime, items)

    monkeypatch.setattr(HeadOnly, "training_inputs", interrupted_before_step_12)
    options = ["--n-trials", "1", "--confirm", "0", "--checkpoint-every", "0.000001"]
    status, _, err = run(*options, "--checkpoint-dir", "kept")
    assert status == 128 + signal.SIGTERM and "the same command resumes it" in err
    assert len(list((tmp_path / "kept").iterdir())) == 1
    status, _, _ = run(*options, "--checkpoint-dir", "kept")
    assert status == 0 and list((tmp_path / "kept").iterdir()) == []
    interrupted, resumed = loaded(tmp_path, "tiny").trials
    assert interrupted.user_attrs["interrupted"] == "Interrupted: SIGTERM"
    assert len(steps) == 16

    run(*options, "--storage", "sqlite:///one_go.db")
    one_go = optuna.load_study(study_name="tiny", storage="sqlite:///one_go.db").trials[0]
    assert resumed.value == one_go.value and resumed.params == one_go.params
    assert (tmp_path / "cache" / "checkpoints").is_dir()


def test_batch_norm_is_part_of_what_a_study_evaluates(run: Callable[..., Result]) -> None:
    run("--n-trials", "1", "--confirm", "0", "--batch-norm", "frozen")
    status, _, err = run("--n-trials", "2", "--confirm", "0")
    assert status == 2 and "study with batch_norm 'frozen', not 'train'" in err


def test_loss_and_sampler_have_studies_of_their_own_in_one_storage(
    run: Callable[..., Result],
) -> None:
    run("--n-trials", "2", "--confirm", "0")
    run("--n-trials", "2", "--confirm", "0", "--sampler", "random")
    run("--n-trials", "2", "--confirm", "0", "--loss", "margin", "--sampler", "tpe")
    names = optuna.get_all_study_names("sqlite:///tiny.db")
    assert sorted(names) == ["tiny", "tiny-margin-tpe", "tiny-random"]


@pytest.mark.parametrize(("option", "n_trainings"), [("--prune", 1), ("--no-prune", 3)])
def test_a_study_ends_trials_early_unless_told_not_to(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    n_trainings: int,
) -> None:
    monkeypatch.setattr(objective, "is_lost", lambda values, others: len(others) > 0)
    status, _, err = run("--n-trials", "2", "--confirm", "0", "--folds", "3", option)
    assert status == 0, err
    trials = optuna.load_study(study_name="tiny", storage="sqlite:///tiny.db").trials
    assert [len(trial.user_attrs["values"]) for trial in trials] == [3, n_trainings]


def test_a_study_starts_from_what_another_one_found(
    run: Callable[..., Result], add_best: Callable[..., None]
) -> None:
    run("--n-trials", "6", "--confirm", "0", "--study-name", "frozen")
    add_best(optuna.load_study(study_name="frozen", storage="sqlite:///tiny.db"))
    own = ("--confirm", "0", "--study-name", "longer", "--samples", "1024")
    status, out, err = run("--n-trials", "2", *own, "--start-from", "frozen")
    assert status == 0, err
    assert "the setting that the study frozen recommends" in out
    found, study = (
        optuna.load_study(study_name=name, storage="sqlite:///tiny.db")
        for name in ("frozen", "longer")
    )
    assert study.trials[1].params == summarize(found).recommended.params
    _, again, _ = run("--n-trials", "2", *own)
    assert again == out


def test_a_wrong_start_writes_nothing(run: Callable[..., Result], tmp_path: Path) -> None:
    run("--n-trials", "1", "--confirm", "0")
    before = (tmp_path / "tiny.db").read_bytes()
    status, _, err = run("--study-name", "new", "--start-from", "nosuch")
    assert status == 2 and "`start_from` is 'nosuch'" in err and len(err.splitlines()) == 1
    assert (tmp_path / "tiny.db").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "learning_rate", "batch_norm"),
    [
        (["--weights", "pretrained"], 1e-4, "frozen"),
        (["--weights", "pretrained", "--head-only"], 1e-3, "train"),
        (["--weights", "random"], 1e-3, "train"),
        (["--weights", "pretrained", "--batch-norm", "train"], 1e-4, "train"),
    ],
)
def test_weights_that_are_trained_on_are_changed_with_care(
    arguments: list[str], learning_rate: float, batch_norm: str
) -> None:
    script = StudyScript(name="x", description="", dataset=lambda options: Digits())
    options = parser_of(script).parse_args(arguments)
    fill_in_defaults(options, "x")
    assert (options.learning_rate, options.batch_norm) == (learning_rate, batch_norm)


def test_an_infeasible_trial_does_not_stop_the_study(run: Callable[..., Result]) -> None:
    status, out, _ = run("--n-trials", "3", "--learning-rate", "1e30")
    assert status == 1
    trials = optuna.load_study(study_name="tiny", storage="sqlite:///tiny.db").trials
    assert all("diverged" in trial.user_attrs["infeasible"] for trial in trials)
    assert "No trial has a feasible value" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-trials", "0"], "--n-trials: '0' is not a whole number of at least 1"),
        (["--workers", "0"], "--workers: '0' is not a whole number of at least 1"),
        (["--timeout", "soon"], "--timeout: 'soon' is not a whole number"),
        (["--learning-rate", "nan"], "--learning-rate: 'nan' is not a positive number"),
        (["--weight-decay", "-1"], "--weight-decay: '-1' is not a number of at least 0"),
        (
            ["--space", "balance=1", "temperature=0.1", "batch_size=16"],
            "`space` has nothing but fixed values of balance, ",
        ),
        (["--sampler", "annealing"], "--sampler: invalid choice: 'annealing'"),
        (["--loss", "triplet"], "--loss: invalid choice: 'triplet'"),
        (["--backbone", "resnet5000"], "`backbone` is 'resnet5000'.*did you mean"),
        (["--weights", "nosuch.safetensors"], "`weights` is 'nosuch.safetensors'"),
        (["--image-size", "4000000"], "`image_size` is 4000000"),
        (["--storage", "nonsense"], "`storage` is no URL of a database"),
        (["--storage", "nonsense"], "://user:\\*\\*\\*@host/database or grpc://host:port"),
        (["--storage", "sqlite:////no/such/x.db"], "/no/such is no folder"),
        (["--storage", "postgresql://me:secret@127.0.0.1:1/x"], "`storage` .*me:\\*\\*\\*@"),
        (["--batch-sizes", "256"], "too few images: `batch_size` must not exceed the 40 images"),
        (["--batch-sizes", "9", "18"], "`batch_size` must be a multiple of images_per_class=4"),
        (["--samples", "16"], "`samples` is 16"),
        (["--folds", "5"], "`n_classes` must leave two classes"),
        (["--device", "abacus"], "`device` is 'abacus'"),
        (["--report", "no/such/folder/report.html"], "`--report` is 'no/such/folder/report.html'"),
        (["--report", "."], "`--report` is '.'; it should be a file"),
        (["--report", ""], "`--report` is '.'; it should be a file"),
        (["--storage", "sqlite:///same.html", "--report", "same.html"], "database of the studies"),
        (["--export", "no/such/folder"], "`export` folder no/such/folder cannot be made"),
        (["--export", ""], "`export` folder . is replaced as a whole"),
        (["--export", "/dev/null"], "`export` folder /dev/null is a file"),
        (["--export", "out", "--cache-dir", "out/cache"], "but out/cache lies in it"),
        (["--storage", "sqlite://"], "`storage` is in memory"),
        (["--storage", "sqlite:///x.db?timeout=abc"], "`storage` .* cannot be used"),
        (["--storage", "sqlite+aiosqlite:///x.db"], "`storage` .* needs the package aiosqlite"),
        (["--study-name", " "], "--study-name: ' ' is not a name"),
        (["--study-name", "a/b"], "--study-name: 'a/b' is not a name"),
        (["--seed", "2147483648"], "--seed: '2147483648' is not a whole number from 0"),
        (["--folds", "1000000000"], "`n_classes` must leave two classes"),
        (["--device", "meta"], "`device` is 'meta'"),
        (["--micro-batch", "0"], "--micro-batch: '0' is not 'auto', 'whole' or a whole number"),
        (["--micro-batch", "half"], "--micro-batch: 'half' is not 'auto', 'whole' or a whole"),
        (["--batch-norm", "whole"], "--batch-norm: invalid choice: 'whole'"),
        (["--compile"], "`compile` is True; with `head_only` it should be False"),
        (["--checkpoint-every", "0"], "--checkpoint-every: '0' is not a positive number"),
        (["--checkpoint-dir", __file__], "`--checkpoint-dir` is '.*', but '.*' is no folder"),
        (["--checkpoint-dir", f"{__file__}/x"], "'.*/x', but '.*.py' is no folder"),
        (["--cache-dir", f"{__file__}/x/y"], "`--cache-dir` is '.*/y', but '.*.py' is no folder"),
        (["--start-from", "frozen"], "`--start-from` is 'frozen'; there is no `--storage`"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    run: Callable[..., Result], tmp_path: Path, arguments: list[str], message: str
) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "secret" not in err
    assert re.search(message, err)
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_nothing_is_begun(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    none = torch._inductor.config.patch({"cpp.cxx": (None, "no such compiler")})
    with none, TemporaryDirectory() as folder:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", folder)
        status, out, err = run("--no-head-only", "--device", "cpu", "--compile")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "`compile` is True, but torch cannot compile for cpu here: " in err
    assert "no such compiler" in err
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_directory_a_folder_for_caches_is_asked_for(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("CBAL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", home)
    status, _, error = run("--n-trials", "1")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "error: $CBAL_CACHE is not set, and this user has no home directory" in error
    assert list(tmp_path.iterdir()) == []


def test_a_study_with_other_options_under_the_same_name_is_refused(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    run("--n-trials", "2", "--confirm", "0")
    before = (tmp_path / "tiny.db").read_bytes()
    status, _, err = run("--n-trials", "3", "--samples", "1024")
    assert status == 2 and "study with samples 512, not 1024" in err
    assert (tmp_path / "tiny.db").read_bytes() == before


def test_a_file_that_is_no_report_is_not_overwritten(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "weights.safetensors").write_text("precious")
    status, _, err = run("--report", "weights.safetensors")
    assert status == 2 and "a file that is there and no .html file" in err
    assert (tmp_path / "weights.safetensors").read_text() == "precious"


def test_the_model_is_exported_and_made_anew_by_the_same_command(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    command = ("--n-trials", "2", "--final", "--export", "model")
    status, out, _ = run(*command)
    assert status == 0 and out.endswith("\nModel: model\n")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "On the test classes, this model's seed being the first: mean" in card
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    again, second, _ = run(*command)
    assert (again, second) == (0, out)
    # What was measured earlier is not forgotten.
    run("--n-trials", "2", "--confirm", "0", "--export", "model")
    assert (tmp_path / "model" / "README.md").read_text() == card
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    assert timm.create_model(f"local-dir:{tmp_path}/model", pretrained=True).num_classes == 8


def test_an_interrupted_export_leaves_nothing_and_is_made_by_the_same_command(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final_model = RetrievalObjective.final_model

    def interrupted(self: RetrievalObjective, setting: Setting, *, seed: int) -> EmbeddingModel:
        os.kill(os.getpid(), signal.SIGTERM)
        return final_model(self, setting, seed=seed)

    command = ("--n-trials", "2", "--confirm", "0", "--export", "model")
    with monkeypatch.context() as patched:
        patched.setattr(RetrievalObjective, "final_model", interrupted)
        status, out, err = run(*command)
    assert status == 128 + signal.SIGTERM
    assert "the same command resumes it" in err and "Model:" not in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "tiny.db", "tiny.html"]
    assert run(*command)[0] == 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_folder_that_is_no_export_is_not_replaced(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    status, _, err = run("--export", "thesis")
    assert status == 2 and "`export` folder thesis holds 'chapter.tex'" in err
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"
    assert not (tmp_path / "tiny.db").exists()


def test_an_export_that_cannot_be_written_is_one_sentence_after_the_result(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    status, out, err = run("--n-trials", "1", "--confirm", "0", "--export", "model")
    assert status == 1 and "Report: tiny.html" in out
    assert err.splitlines()[-1].endswith("cannot be written: No space left on device")


def test_nothing_is_exported_without_a_feasible_trial(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    status, out, _ = run("--n-trials", "2", "--learning-rate", "1e30", "--export", "model")
    assert status == 1 and "No trial has a feasible value" in out
    assert not (tmp_path / "model").exists()


def test_the_test_classes_are_reported_even_if_nothing_better_was_found(
    run: Callable[..., Result],
) -> None:
    _, out, _ = run("--n-trials", "1", "--final")
    assert "The usual setting is the best one found: MAP@R" in out and "on test classes." in out


def test_a_comparison_of_another_study_is_refused(run: Callable[..., Result]) -> None:
    run("--n-trials", "1", "--confirm", "0", "--study-name", "b.validation")
    status, _, err = run("--n-trials", "1", "--study-name", "b")
    assert status == 2 and "'b.validation' is a study with fresh_seeds" in err


def test_a_database_of_another_program_is_refused(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    status, _, err = run("--storage", "sqlite:///other.db")
    assert status == 2 and "holds tables of another program ('customers')" in err


def test_a_study_of_another_direction_is_refused(run: Callable[..., Result]) -> None:
    optuna.create_study(study_name="tiny", storage="sqlite:///tiny.db", direction="minimize")
    status, _, err = run()
    assert status == 2 and "direction is not 'maximize'" in err


def test_help_reads_well(run: Callable[..., Result]) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for option in (
        "--n-trials",
        "--workers",
        "--stop-when-converged",
        "--sampler",
        "--head-only",
        "--final",
        "--export",
        "--report",
        "--storage",
    ):
        assert option in out
    assert "default: None" not in out and "%(" not in out


def test_the_digits_script_runs(tmp_path: Path) -> None:
    done = script(tmp_path, "digits.py", *QUICK, "--n-trials", "2")
    assert done.returncode == 0, done.stderr
    assert "digits: 2 trials: 2 completed" in done.stdout


def test_the_image_folder_script_runs(tmp_path: Path) -> None:
    for label in range(8):
        folder = tmp_path / "images" / f"class {label}"
        folder.mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng([label, i]).integers(0, 255, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    own = ["--root", "images", "--weights", "random", "--image-size", "32"]
    done = script(
        tmp_path, "image_folder.py", *QUICK, *own, "--batch-sizes", "8", "12", "--n-trials", "2"
    )
    assert done.returncode == 0, done.stderr
    assert "image_folder: 2 trials: 2 completed" in done.stdout


@pytest.mark.parametrize("name", ["cub200.py", "image_folder.py"])
def test_a_wrong_folder_says_what_was_expected(tmp_path: Path, name: str) -> None:
    done = script(tmp_path, name, "--root", "nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_is_intact_and_resumes(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, STUDIES / "digits.py", *QUICK, "--n-trials", "1000"]
    printed = tmp_path / "stderr"
    with printed.open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stderr=stderr,
            # Children of a shell's background jobs, as on a CI machine, would ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        deadline = time.monotonic() + 120
        while "2/1000" not in printed.read_text():
            assert process.poll() is None and time.monotonic() < deadline, printed.read_text()
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
    finally:
        process.kill()
    rest = printed.read_text()
    assert "the same command resumes it" in rest and "Traceback" not in rest

    trials = loaded(tmp_path).trials
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(finished) >= 2
    assert all(t.state.is_finished() or t.state == TrialState.WAITING for t in trials)
    more = str(len(finished) + 1)
    done = script(tmp_path, "digits.py", *QUICK, "--n-trials", more)
    assert done.returncode == 0, done.stderr
    resumed = [t for t in loaded(tmp_path).trials if t.state == TrialState.COMPLETE]
    assert len(resumed) == len(finished) + 1
    assert [t.params for t in resumed[:-1]] == [t.params for t in finished]


def script(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, STUDIES / name, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def loaded(folder: Path, name: str = "digits") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/{name}.db")
