"""A tiny data set, an objective on it that trains in milliseconds, a PostgreSQL and a MariaDB."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
import os
import shutil
import subprocess
import tempfile
import time
from typing import Any
import uuid


# Networks this small are slower on several threads, and much slower where others want the cores
# too. Set before torch is loaded, for the tests and the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from optuna.distributions import CategoricalDistribution
from PIL import Image
import pytest
from sqlalchemy import create_engine
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from cbal_optuna.data import LabelledImages
from cbal_optuna.objectives import RetrievalObjective
from cbal_optuna.objectives import SearchSpace
from cbal_optuna.training import TrainingOptions


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


def program(name: str) -> str | None:
    # Debian keeps them off the path.
    folders = [os.environ["PATH"], *sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    folders.append("/usr/sbin")
    return shutil.which(name, path=os.pathsep.join(folders))


# Database servers refuse to run as root.
SERVANT = "nobody" if os.getuid() == 0 else None


@contextmanager
def servants_folder() -> Iterator[str]:
    """A folder for a server, as nobody else may enter pytest's. It listens on a socket in it, so
    that no port has to be free."""
    with tempfile.TemporaryDirectory(prefix="cbal-") as folder:
        if SERVANT is not None:
            shutil.chown(folder, SERVANT)
        yield folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a database: of the environment variable ``CBAL_TEST_POSTGRESQL`` (an SQLAlchemy
    URL), or else of a server that is started where its programs are installed."""
    pytest.importorskip("psycopg2")
    if "CBAL_TEST_POSTGRESQL" in os.environ:
        yield os.environ["CBAL_TEST_POSTGRESQL"]
        return
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("there is no PostgreSQL: install it, or set CBAL_TEST_POSTGRESQL")
    with servants_folder() as folder:

        def run(program: str, *arguments: str) -> None:
            command = [program, f"--pgdata={folder}/data", *arguments]
            subprocess.run(
                command, check=True, cwd=folder, user=SERVANT, stdout=subprocess.DEVNULL
            )

        run(initdb, "--auth=trust", "--username=cbal", "--encoding=UTF8", "--no-sync")
        settings = f"-F -c listen_addresses= -c unix_socket_directories={folder}"
        run(pg_ctl, "start", "--wait", f"--log={folder}/log", f"--options={settings}")
        try:
            yield f"postgresql+psycopg2://cbal@/postgres?host={folder}"
        finally:
            run(pg_ctl, "stop", "--mode=immediate")


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


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """The URL of a server: of the environment variable ``CBAL_TEST_MYSQL`` (an SQLAlchemy URL of
    one who may make databases), or else of one that is started where MariaDB is installed."""
    pytest.importorskip("pymysql")
    if "CBAL_TEST_MYSQL" in os.environ:
        yield os.environ["CBAL_TEST_MYSQL"]
        return
    install, mariadbd = program("mariadb-install-db"), program("mariadbd")
    if install is None or mariadbd is None:
        pytest.skip("there is no MariaDB: install it, or set CBAL_TEST_MYSQL")
    with servants_folder() as folder:
        options = ["--no-defaults", f"--datadir={folder}/data"]
        silent: dict[str, Any] = {"user": SERVANT, "cwd": folder, "stdout": subprocess.DEVNULL}
        subprocess.run(
            [install, *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True,
            **silent,
        )
        options += [f"--socket={folder}/socket", "--skip-networking", "--skip-log-bin"]
        # As by default from MariaDB 11.6 on.
        options.append("--loose-innodb-snapshot-isolation=ON")
        options.append("--innodb-flush-log-at-trx-commit=0")
        with (
            open(f"{folder}/log", "w") as log,
            subprocess.Popen([mariadbd, *options], stderr=log, **silent) as server,
        ):
            try:
                url = f"mysql://root@localhost/?unix_socket={folder}/socket"
                wait_until_it_answers(url.replace("mysql", "mysql+pymysql", 1), server)
                yield url
            finally:
                server.kill()


def wait_until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    engine, deadline = create_engine(url), time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
            return
        except OperationalError:
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)


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
