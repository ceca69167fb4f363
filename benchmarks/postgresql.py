"""A PostgreSQL server of one's own, to be stopped, started and thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
import os
import shutil
import subprocess
import tempfile


class Server:
    """One that listens on a socket in its own folder, so that no port has to be free.

    Attributes:
        url:
            Of a database.

    Raises:
        FileNotFoundError: Its programs are not installed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._initdb, self._pg_ctl = _program("initdb"), _program("pg_ctl")
        # It refuses to run as root, and nobody else may enter the folders of others.
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
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
        subprocess.run(
            command, check=True, cwd=self._folder, user=self._user, stdout=subprocess.DEVNULL
        )


@contextmanager
def running_server() -> Iterator[Server]:
    """Gone afterwards; it may have been stopped meanwhile, but should run at the end."""
    with tempfile.TemporaryDirectory(prefix="cbal-") as folder:
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _program(name: str) -> str:
    # Debian keeps them off the path.
    folders = [os.environ["PATH"], *sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise FileNotFoundError(f"{name} of PostgreSQL is not installed")
    return found
