from __future__ import annotations

from collections.abc import Callable

import pytest

from cbal_optuna.commands import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        return int(exit.value.code or 0), *capsys.readouterr()

    return run
