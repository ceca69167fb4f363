"""``summary``: results of studies as text or JSON."""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from cbal_optuna.command_line.parser import Parser
from cbal_optuna.commands.stored import add_command
from cbal_optuna.commands.stored import Commands
from cbal_optuna.commands.stored import comparisons_of
from cbal_optuna.commands.stored import single_objective_studies
from cbal_optuna.report import result_text
from cbal_optuna.summary import summarize


def add(commands: Commands[Parser]) -> None:
    parser = add_command(
        commands,
        "summary",
        run,
        "Say what studies have found, and whether to search on.",
        "sqlite:///cub200.db --json",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, one object a study")


def run(options: argparse.Namespace) -> None:
    storage, studies = single_objective_studies(options)
    if options.json:
        print(json.dumps([as_json(study) for study in studies], indent=2))
        return
    print("\n\n\n".join(result_text(s, comparisons_of(storage, s)) for s in studies))


def as_json(study: Study) -> dict[str, Any]:
    """The summary of a study in plain JSON types; of one without a feasible value, the counts."""
    trials = study.get_trials(deepcopy=False)
    result: dict[str, Any] = {"study": study.study_name, "trials": len(trials)}
    try:
        summary = summarize(study)
    except ValueError:
        return result
    fields = {name: getattr(summary, name) for name in summary.__dataclass_fields__}
    for name, value in fields.items():
        if isinstance(value, FrozenTrial):
            fields[name] = {"trial": value.number, "value": value.value, "params": value.params}
        elif name in ("expected", "usual_expected") and value is not None:
            fields[name] = asdict(value)
    fields["near_optimal"] = [asdict(near) for near in summary.near_optimal]
    return {**result, **fields, "gain": summary.gain}
