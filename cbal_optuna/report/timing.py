"""Where the time of a study's trainings goes, in a sentence and a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from optuna.trial import FrozenTrial

from cbal_optuna.report.page import table
from cbal_optuna.report.words import label
from cbal_optuna.training import PHASES


#: The user attributes that hold it, in the order of the phases.
PHASE_ATTRIBUTES = tuple(f"{phase}_seconds" for phase in PHASES)
_MEANING = {
    "data": "fetching and augmenting images",
    "forward": "the embeddings",
    "loss": "the loss",
    "backward": "the gradient",
    "step": "the optimizer",
    "evaluation": "evaluations",
    "checkpoint": "checkpoints",
}


def where_the_time_goes(trials: Sequence[FrozenTrial]) -> str:
    """A section of the page; nothing if no trial says where its time went."""
    found = [[t.user_attrs.get(name, 0.0) for name in PHASE_ATTRIBUTES] for t in trials]
    seconds = np.array([row for row in found if sum(row) > 0])
    if not len(seconds):
        return ""
    totals = seconds.sum(1, keepdims=True)
    shares = seconds / totals
    rows = [
        [
            _MEANING[phase],
            timedelta(seconds=float(np.median(seconds[:, i]))),
            _percent(np.median(shares[:, i])),
            f"{_percent(shares[:, i].min())} to {_percent(shares[:, i].max())}",
        ]
        for i, phase in enumerate(PHASES)
    ]
    most = max(range(len(PHASES)), key=lambda i: np.median(shares[:, i]))
    total = timedelta(seconds=float(np.median(totals)))
    return f"""<h2>Where the time goes</h2>
<p>A training takes {label(total)}, {rows[most][2]} of it for {rows[most][0]}: medians over
{len(seconds)} trial{"s" if len(seconds) > 1 else ""}.</p>
{table(["", "time", "share", "from trial to trial"], rows)}"""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
