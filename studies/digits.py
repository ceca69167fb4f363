"""The quick start: scikit-learn's handwritten digits, a small ConvNeXt, a few minutes on
a CPU."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["digits"]

if __name__ == "__main__":
    main(SCRIPT)
