"""The documentation's snippets, page by page as a reader would run them.

Blocks with a caption are files, other Python blocks are one program, and of shell commands those
that run Python are run. Pages of packages that are not installed are skipped.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import runpy
import shlex
import subprocess
import sys
from textwrap import dedent
from types import ModuleType

import optuna
import pytest

from cbal_optuna.command_line.options import parser_of
from cbal_optuna.commands import main


ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN_FILE = "studies/run.py"
OPTIONAL = {
    "hydra",
    "lightning",
    "mlflow",
    "optuna_integration",
    "pytorch_metric_learning",
    "ray",
    "wandb",
}
# Nobody is called, and Ray's workers need no token.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "false",
}
BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?P<options>(?: +:.*\n)*)"
    r"(?P<body>(?:(?: +.*)?\n)+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A code block of a page; ``line`` is that of its first one, from 0 on."""

    language: str
    caption: str
    text: str
    line: int

    @property
    def packages(self) -> set[str]:
        """What it imports."""
        if self.language != "python":
            return set()
        nodes = list(ast.walk(ast.parse(self.text)))
        names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
        names += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        return {name.partition(".")[0] for name in names}


def blocks_of(page: Path) -> list[Block]:
    source = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(source):
        caption = re.search(r":caption: (.+)", match["options"])
        found.append(
            Block(
                match["language"],
                caption[1] if caption else "",
                dedent(match["body"]),
                source.count("\n", 0, match.start("body")),
            )
        )
    return found


def commands_of(block: Block) -> Iterator[list[str]]:
    """Those that run Python, as lists of words."""
    if block.language == "console":
        for line in block.text.splitlines():
            words = shlex.split(line.removeprefix("$ ")) if line.startswith("$ ") else []
            if words[:1] == ["python"]:
                yield words[1:]


PAGES = {
    page.relative_to(DOCS).with_suffix("").as_posix(): blocks_of(page)
    for page in sorted(DOCS.rglob("*.rst"))
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to run a page in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CBAL_CACHE", str(tmp_path / "cache"))
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    verbosity = optuna.logging.get_verbosity()
    yield tmp_path
    optuna.logging.set_verbosity(verbosity)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "page", [name for name, blocks in PAGES.items() if any(b.language == "python" for b in blocks)]
)
def test_the_snippets_of_a_page_run(
    page: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = PAGES[page]
    for package in sorted(OPTIONAL & set().union(*(block.packages for block in blocks))):
        pytest.importorskip(package)
    program = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", program)
    for block in blocks:
        if block.caption:
            (place / block.caption).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            # Tracebacks then name the line of the page.
            text = "\n" * block.line + block.text
            exec(compile(text, str(DOCS / f"{page}.rst"), "exec"), vars(program))
        for command in commands_of(block):
            if (place / command[0]).is_file():
                subprocess.run([sys.executable, *command], check=True)
            elif command[0] == RUN_FILE:
                subprocess.run([sys.executable, ROOT / RUN_FILE, *command[1:]], check=True)
            elif command[:2] == ["-m", "cbal_optuna"]:
                with pytest.raises(SystemExit) as exit:
                    main(command[2:])
                assert not exit.value.code


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=" ".join(command))
        for blocks in PAGES.values()
        for block in blocks
        for command in commands_of(block)
        if command[0].startswith("studies/") and command[0] != RUN_FILE
    ],
)
def test_the_studies_have_the_options_that_commands_give(command: list[str]) -> None:
    script, *arguments = command

    parser_of(runpy.run_path(str(ROOT / script))["SCRIPT"]).parse_args(arguments)
