"""A tiny data set, an objective on it that trains in milliseconds, a PostgreSQL and a MariaDB, and
what is asked of a script whatever it is given."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import redirect_stderr
from contextlib import redirect_stdout
from importlib import import_module
import io
import os
from pathlib import Path
import signal
import tempfile
from typing import Any
import uuid


# Networks this small are slower on several threads, and much slower where others want the cores
# too. Set before torch is loaded, for the tests and the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck
from hypothesis import settings
import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import create_trial
from PIL import Image
import pytest
from sqlalchemy import create_engine
from sqlalchemy import make_url

from cbal_optuna.command_line import running
from cbal_optuna.data import LabelledImages
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.training import TrainingOptions


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# ``CBAL_FUZZ=5000`` tries as many inputs, others each time.
_ASKED_FOR = os.environ.get("CBAL_FUZZ")
settings.register_profile(
    "any input",
    deadline=None,
    max_examples=int(_ASKED_FOR or 200),
    derandomize=_ASKED_FOR is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class NoisyColours(LabelledImages):
    """Twelve classes of ten images: the colour of the class, more or less."""

    def __init__(self, n_classes: int = 12, n_images: int = 10) -> None:
        labels = np.repeat(np.arange(n_classes), n_images)
        super().__init__("noisy colours", labels, [f"colour {c}" for c in range(n_classes)])
        rng = np.random.default_rng(0)
        colours = rng.integers(0, 256, (n_classes, 1, 1, 3))
        noise = rng.normal(0, 60, (len(labels), 1, 1, 3)) + rng.normal(
            0, 60, (len(labels), 16, 16, 3)
        )
        self._pixels = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index])

    def fingerprint(self) -> str:
        return f"noisy-colours-{self.n_classes}-{len(self)}"


def small_batches(loss: str) -> SearchSpace:
    return SearchSpace(loss, batch_size=CategoricalDistribution((8, 16, 32)))


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Programs take signals, and those that end ignore them, which child processes inherit."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def colours() -> LabelledImages:
    return NoisyColours()


@pytest.fixture
def tiny_objective(
    colours: LabelledImages, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RetrievalObjective]:
    """Makes head-only objectives; keyword arguments replace its own."""

    def make(**arguments: Any) -> RetrievalObjective:
        own: dict[str, Any] = {
            "backbone": "test_resnet",
            "weights": "random",
            "image_size": 32,
            "head_only": True,
            "embedding_dim": 8,
            "training": TrainingOptions(samples=512, n_evaluations=2),
            "cache_directory": tmp_path_factory.getbasetemp() / "cache",
        }
        own["space"] = small_batches(arguments.get("loss", "infonce"))
        return RetrievalObjective(colours, **{**own, **arguments})

    return make


@pytest.fixture
def add_best() -> Callable[..., None]:
    """Adds a trial to a study: another balance than the first one's, and the best value. What
    a tiny search finds is chance."""

    def add(study: Study, *, balance: float = 4.0, value: float = 2.0) -> None:
        first = study.trials[0]
        study.add_trial(
            create_trial(
                params={**first.params, "balance": balance},
                distributions=first.distributions,
                value=value,
            )
        )

    return add


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a database: of the environment variable ``CBAL_TEST_POSTGRESQL`` (an SQLAlchemy
    URL), or else of a server that is started where its programs are installed."""
    pytest.importorskip("psycopg2")
    yield from url_of("CBAL_TEST_POSTGRESQL", "running_postgresql")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """The URL of a server: of the environment variable ``CBAL_TEST_MYSQL`` (an SQLAlchemy URL of
    one who may make databases), or else of one that is started where MariaDB is installed."""
    pytest.importorskip("pymysql")
    yield from url_of("CBAL_TEST_MYSQL", "running_mariadb")


def url_of(variable: str, running: str) -> Iterator[str]:
    """That of the environment variable, or of a server of ``benchmarks/database_servers.py``."""
    if variable in os.environ:
        yield os.environ[variable]
        return
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.syspath_prepend(BENCHMARKS)
        start = getattr(import_module("database_servers"), running)
        try:
            server = stack.enter_context(start())
        except FileNotFoundError as error:
            pytest.skip(f"{error}: install it, or set {variable}")
        yield server.url


@pytest.fixture
def postgresql_schema(postgresql: str) -> Iterator[str]:
    """The URL of an empty schema, dropped at the end."""
    name, engine = f"cbal_{uuid.uuid4().hex}", create_engine(postgresql)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    try:
        own = make_url(postgresql).update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
        engine.dispose()


@pytest.fixture
def mariadb_database(mariadb: str) -> Iterator[str]:
    """The URL of an empty database, dropped at the end."""
    name = f"cbal_{uuid.uuid4().hex}"
    engine = create_engine(make_url(mariadb).set(drivername="mysql+pymysql"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield make_url(mariadb).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        engine.dispose()


@pytest.fixture
def no_trials(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies are opened, and their trials left out."""
    monkeypatch.setattr(running, "_run", lambda *arguments: 0)
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def study_or_sentence(no_trials: None) -> Callable[..., str]:
    """Runs a script in a folder of its own, which may be filled first. It ends with status 0, or
    with 2, one printable sentence, which is returned, and nothing written. With 1, where that is
    allowed, a study may have begun."""

    def written() -> set[str]:
        return {os.path.join(place, name) for place, a, b in os.walk(".") for name in (*a, *b)}

    def run(
        script: Callable[[], object],
        fill: Callable[[], object] = lambda: None,
        *,
        may_fail: bool = False,
    ) -> str:
        out, error = io.StringIO(), io.StringIO()
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
            patched.chdir(folder)
            fill()
            before = written()
            with redirect_stdout(out), redirect_stderr(error), pytest.raises(SystemExit) as exit:
                script()
            # Sqlite removes its logs with the connection.
            new = {path for path in written() - before if not path.endswith(("-wal", "-shm"))}
        status = exit.value.code or 0
        assert status in ((0, 1, 2) if may_fail else (0, 2)), error.getvalue()
        if status == 0:
            assert len([path for path in new if path.endswith(".db")]) <= 1
            return ""
        (sentence,) = error.getvalue().splitlines()
        assert ": error: " in sentence
        assert sentence.isprintable()
        assert not new or status == 1
        return sentence

    return run
