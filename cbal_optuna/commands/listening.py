"""The address on which a command listens."""

from __future__ import annotations

import argparse
import ipaddress

from cbal_optuna.command_line.argument_types import port
from cbal_optuna.command_line.parser import Parser


def add_address(parser: Parser, default_port: int) -> None:
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
        default=default_port,
        metavar="N",
        help="0 for any that is free (default: %(default)s)",
    )


def shown_host(options: argparse.Namespace) -> str:
    """As it stands in a URL."""
    return f"[{options.host}]" if ":" in options.host else str(options.host)


def warning(options: argparse.Namespace) -> str | None:
    """What there is to say if others than this machine can reach the address."""
    if _is_loopback(options.host):
        return None
    return f"Who can reach {options.host} can change and delete the studies."


def cannot_listen(options: argparse.Namespace, reason: object) -> ValueError:
    return ValueError(
        f"`--host` {options.host} and `--port` {options.port} cannot be listened on: {reason}."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
