"""Database servers of one's own, and a proxy, to be stopped, started and thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError


# They refuse to run as root.
_USER = "nobody" if hasattr(os, "getuid") and os.getuid() == 0 else None
_START_SECONDS = 60


class PostgreSQL:
    """A server that listens on a socket in its own folder, so that no port has to be free.

    Attributes:
        url:
            Of a database.

    Raises:
        FileNotFoundError: Its programs are not installed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._initdb, self._pg_ctl = _program("initdb"), _program("pg_ctl")
        self.url = f"postgresql+psycopg2://cbal@/postgres?host={folder}"
        self._run(self._initdb, "--auth=trust", "--username=cbal", "--encoding=UTF8", "--no-sync")

    def start(self) -> None:
        settings = f"-F -c listen_addresses= -c unix_socket_directories={self._folder}"
        log = f"--log={self._folder}/log"
        self._run(self._pg_ctl, "start", "--wait", log, f"--options={settings}")

    def stop(self, mode: str = "immediate") -> None:
        """``"immediate"``: as if it crashed; ``"fast"``: as when a machine is shut down."""
        self._run(self._pg_ctl, "stop", f"--mode={mode}")

    def _run(self, program: str, *arguments: str) -> None:
        command = [program, f"--pgdata={self._folder}/data", *arguments]
        subprocess.run(command, check=True, **_silent(self._folder))


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """Gone afterwards; it may have been stopped meanwhile, but should run at the end."""
    with _own_folder() as folder:
        server = PostgreSQL(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Proxy:
    """``serve-storage`` with a sqlite file.

    Attributes:
        url:
            By which workers reach it.
    """

    _process: subprocess.Popen[str]

    def __init__(self, folder: str) -> None:
        self._database = f"sqlite:///{folder}/study.db"
        self.url = "grpc://127.0.0.1:0"

    def start(self) -> None:
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "cbal_optuna", "serve-storage", self._database]
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [*command, "--port", port],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[-1]

    def stop(self, mode: str = "immediate") -> None:
        """``"immediate"``: killed; ``"fast"``: asked to end."""
        if mode == "immediate":
            self._process.kill()
        else:
            self._process.terminate()
        self._process.communicate()


@contextmanager
def running_proxy() -> Iterator[Proxy]:
    """Gone afterwards; it may have been stopped meanwhile, but should run at the end."""
    with tempfile.TemporaryDirectory(prefix="cbal-") as folder:
        server = Proxy(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@dataclass(frozen=True)
class MariaDB:
    """A server on a socket in its own folder.

    Args:
        url:
            Of the server; its user may make databases.
    """

    url: str


@contextmanager
def running_mariadb() -> Iterator[MariaDB]:
    """Gone afterwards.

    Raises:
        FileNotFoundError: Its programs are not installed.
    """
    install, mariadbd = _program("mariadb-install-db"), _program("mariadbd")
    with _own_folder() as folder:
        options = ["--no-defaults", f"--datadir={folder}/data"]
        making = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run([install, *options, *making], check=True, **_silent(folder))
        options += [f"--socket={folder}/socket", "--skip-networking", "--skip-log-bin"]
        # As by default from MariaDB 11.6 on.
        options.append("--loose-innodb-snapshot-isolation=ON")
        options.append("--innodb-flush-log-at-trx-commit=0")
        with (
            open(f"{folder}/log", "w") as log,
            subprocess.Popen([mariadbd, *options], stderr=log, **_silent(folder)) as server,
        ):
            try:
                url = f"mysql://root@localhost/?unix_socket={folder}/socket"
                _wait_until_it_answers(url.replace("mysql", "mysql+pymysql", 1), server)
                yield MariaDB(url)
            finally:
                server.kill()


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    engine, deadline = create_engine(url), time.monotonic() + _START_SECONDS
    while True:
        try:
            engine.connect().close()
            return
        except OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def _own_folder() -> Iterator[str]:
    """Nobody else may enter the folders of others."""
    with tempfile.TemporaryDirectory(prefix="cbal-") as folder:
        if _USER is not None:
            shutil.chown(folder, _USER)
        yield folder


def _silent(folder: str) -> dict[str, Any]:
    return {"user": _USER, "cwd": folder, "stdout": subprocess.DEVNULL}


def _program(name: str) -> str:
    # Debian keeps them off the path.
    folders = [os.environ["PATH"], *sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin"]))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found
