"""Compare samplers on a study: ``python studies/compare.py cub200 --root DIR --seeds 5``."""

from __future__ import annotations

from pathlib import Path

from cbal_optuna.command_line import main_of_comparison


if __name__ == "__main__":
    main_of_comparison(Path(__file__).parent)
