"""``serve-storage``: a database for many workers, which share the connections of one process."""

from __future__ import annotations

import argparse
from contextlib import suppress
from importlib.util import find_spec
import socket
import sys
import warnings

from optuna.exceptions import ExperimentalWarning

from cbal_optuna.command_line.argument_types import place
from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.listening import add_address
from cbal_optuna.commands.listening import cannot_listen
from cbal_optuna.commands.listening import shown_host
from cbal_optuna.commands.listening import warning
from cbal_optuna.commands.stored import Commands
from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.proxy import StorageProxy
from cbal_optuna.served_storage import serve
from cbal_optuna.storage import check_storage
from cbal_optuna.storage import close_storage
from cbal_optuna.storage import masked
from cbal_optuna.storage import open_storage
from cbal_optuna.storage import PROXY_PORT


def add(commands: Commands[Parser]) -> None:
    description = "Serve a database to many workers, whose --storage is then grpc://HOST:PORT."
    parser = commands.add_parser(
        "serve-storage",
        help=description,
        description=description,
        epilog="example: python -m cbal_optuna serve-storage sqlite:///cub200.db --port 13000",
    )
    parser.add_argument(
        "storage",
        type=place,
        metavar="STORAGE",
        help="URL of the database, which is made if need be",
    )
    add_address(parser, PROXY_PORT)
    parser.set_defaults(run=run, more=None)


def run(options: argparse.Namespace) -> None:
    if find_spec("grpc") is None:
        raise ValueError(
            'The command needs grpcio, which is not installed: pip install ".[grpc]".'
        )
    check_storage(options.storage)
    storage = open_storage(options.storage)
    if isinstance(storage, StorageProxy):
        storage.close()
        raise ValueError(
            f"`STORAGE` is {masked(options.storage)}, which is served already; it should be "
            "a database."
        )
    number = _free_port(options)
    print(f"{masked(options.storage)}: grpc://{shown_host(options)}:{number}", flush=True)
    danger = warning(options)
    if danger is None:
        print("Only this machine reaches it; --host says otherwise. Ctrl-C ends it.", flush=True)
    else:
        print("Ctrl-C ends it.", flush=True)
        print(danger, file=sys.stderr, flush=True)
    interruption = Interruption()
    with warnings.catch_warnings(), suppress(Interrupted):
        warnings.simplefilter("ignore", ExperimentalWarning)
        serve(storage, shown_host(options), number)
    interruption.ignore()
    close_storage(storage)


def _free_port(options: argparse.Namespace) -> int:
    """The port, or any if it is 0. The server itself would share one that another server has.

    Raises:
        ValueError: The address cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(address)
            return int(free.getsockname()[1])
    # Of what cannot be a name at all, Python says so by the other two.
    except (OSError, TypeError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise cannot_listen(options, reason) from error
