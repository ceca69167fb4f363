"""Takes part in the trainings of a study that another process of torchrun runs."""

from __future__ import annotations

import argparse
import signal
import sys

from cbal_optuna.command_line.objectives import fill_in_defaults
from cbal_optuna.command_line.objectives import objective_of
from cbal_optuna.command_line.scripts import StudyScript
from cbal_optuna.plain_text import printable
from cbal_optuna.training import Ranks


def follow(script: StudyScript, options: argparse.Namespace, ranks: Ranks) -> int:
    """Do a share of each training until the leader says that it was the last; gives the exit
    status.

    Signals that ask a process to end are left to the leader, who stores what there is to store
    and then ends all.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        fill_in_defaults(options, script.name)
        objective = objective_of(script, options)
        objective.share(ranks)
        ranks.prepare(objective.prepare)
    except (ValueError, OSError) as error:
        print(f"rank {ranks.rank}: error: {printable(error)}", file=sys.stderr)
        return 2
    objective.follow()
    return 0
