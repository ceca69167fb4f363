"""``dashboard``: optuna-dashboard, with what it shows made current."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
import ipaddress
import json
from socketserver import ThreadingMixIn
import sys
from typing import Any
from wsgiref.simple_server import make_server
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import WSGIServer

from optuna.artifacts import FileSystemArtifactStore

from cbal_optuna.artifacts import artifact_directory
from cbal_optuna.command_line.argument_types import port
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import comparisons_of
from cbal_optuna.commands.stored import stored_studies
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.interruption import Interrupted
from cbal_optuna.storage import masked


def add(commands: Commands[Parser]) -> None:
    parser = add_command(
        commands,
        "dashboard",
        run,
        "Show studies in the browser, with their results as notes and their figures.",
        "sqlite:///cub200.db --port 8080",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="to listen on; others than this machine's own let everyone who can reach them change "
        "and delete studies (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=port,
        default=8080,
        metavar="N",
        help="0 for any that is free (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    if find_spec("optuna_dashboard") is None:
        raise ValueError(
            "The command needs optuna-dashboard, which is not installed: pip install "
            '".[dashboard]".'
        )
    from optuna_dashboard import wsgi

    storage, studies = stored_studies(options, to_read=False)
    for study in studies:
        if len(study.directions) == 1:
            update_dashboard(study, comparisons_of(storage, study))
    directory = artifact_directory(storage)
    store = None
    if directory is not None and directory.is_dir():
        store = FileSystemArtifactStore(directory)
    with server_of(options.host, options.port, wsgi(storage, store)) as server:
        host = f"[{options.host}]" if ":" in options.host else options.host
        url = f"http://{host}:{server.server_port}/"
        said = f"{masked(options.storage)}: {url}\nCtrl-C ends it."
        print(json.dumps({"url": url}) if options.json else said, flush=True)
        if not _is_loopback(options.host):
            print(
                f"Who can reach {options.host} can change and delete the studies.",
                file=sys.stderr,
                flush=True,
            )
        with suppress(Interrupted):
            server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    # A browser keeps its connections open.
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""


def server_of(host: str, number: int, application: Callable[..., Any]) -> WSGIServer:
    """One that serves an application to several at a time, and says nothing of it.

    Raises:
        ValueError: The address cannot be listened on.
    """
    try:
        return make_server(host, number, application, _Server, _Silent)
    # Of what cannot be a name at all, Python says so by the other two.
    except (OSError, TypeError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"`--host` {host} and `--port` {number} cannot be listened on: {reason}."
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
