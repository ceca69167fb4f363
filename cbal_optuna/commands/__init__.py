"""What ``python -m cbal_optuna`` does with stored studies, a command per module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.interruption import silent_end
from cbal_optuna.version import __version__


with silent_end():
    import optuna
    from optuna.exceptions import OptunaError

    from cbal_optuna.command_line.parser import Parser
    from cbal_optuna.commands import compare
    from cbal_optuna.commands import dashboard
    from cbal_optuna.commands import export
    from cbal_optuna.commands import report
    from cbal_optuna.commands import resume
    from cbal_optuna.commands import serve_storage
    from cbal_optuna.commands import summary


__all__ = ["main"]

_COMMANDS = (summary, report, compare, export, dashboard, serve_storage, resume)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: with status 2 if the input is wrong."""
    Interruption()
    parser = Parser(
        prog="python -m cbal_optuna", description="Look at stored studies, and take them up again."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    try:
        options, more = parser.parse_known_args(arguments)
        if options.more is not None:
            options.more = more
        elif more:
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        options.run(options)
    except Interrupted as interrupted:
        parser.exit(128 + interrupted.number, "\nInterrupted.\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except OptunaError as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    parser.exit()
