"""In-Shop Clothes Retrieval: on the test classes, queries search a gallery."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


SCRIPT = SCRIPTS["inshop"]

if __name__ == "__main__":
    main(SCRIPT)
