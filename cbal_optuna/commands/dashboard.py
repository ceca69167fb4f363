"""``dashboard``: optuna-dashboard, with what it shows made current."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
import json
from socketserver import ThreadingMixIn
import sys
from typing import Any
from wsgiref.simple_server import make_server
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import WSGIServer

from optuna.artifacts import FileSystemArtifactStore

from cbal_optuna.artifacts import artifact_directory
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.listening import add_address
from cbal_optuna.commands.listening import cannot_listen
from cbal_optuna.commands.listening import shown_host
from cbal_optuna.commands.listening import warning
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import stored_studies
from cbal_optuna.dashboard import update_dashboard
from cbal_optuna.interruption import Interrupted
from cbal_optuna.storage import masked


def add(commands: Commands[Parser]) -> None:
    parser = add_command(
        commands,
        "dashboard",
        run,
        "Show all studies of a storage in the browser, those of `--study` with their results as "
        "notes and their figures.",
        "sqlite:///cub200.db --port 8080",
    )
    add_address(parser, 8080)


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
            update_dashboard(study)
    directory = artifact_directory(storage)
    store = None
    if directory is not None and directory.is_dir():
        store = FileSystemArtifactStore(directory)
    with server_of(options, wsgi(storage, store)) as server:
        url = f"http://{shown_host(options)}:{server.server_port}/"
        said = f"{masked(options.storage)}: {url}\nCtrl-C ends it."
        print(json.dumps({"url": url}) if options.json else said, flush=True)
        if (danger := warning(options)) is not None:
            print(danger, file=sys.stderr, flush=True)
        with suppress(Interrupted):
            server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    # A browser keeps its connections open.
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""


def server_of(options: argparse.Namespace, application: Callable[..., Any]) -> WSGIServer:
    """One that serves an application to several at a time, and says nothing of it.

    Raises:
        ValueError: The address cannot be listened on.
    """
    try:
        return make_server(options.host, options.port, application, _Server, _Silent)
    # Of what cannot be a name at all, Python says so by the other two.
    except (OSError, TypeError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise cannot_listen(options, reason) from error
