"""``python -m cbal_optuna``: what can be done with studies that are stored."""

from __future__ import annotations

from cbal_optuna.commands import main


if __name__ == "__main__":
    main()
