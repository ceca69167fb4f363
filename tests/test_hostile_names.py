"""Classes and images with names made to harm, from the folder to all that a study leaves."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
import os
from pathlib import Path
import re
from typing import Any

import numpy as np
import optuna
from PIL import Image
import pytest

from cbal_optuna import commands
from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS


ATTACK = "<img src=x onerror=alert(1)>"
CLEAR = "\x1b[2J\x1b]0;owned\x07"
NAMES = [
    *(
        ATTACK,
        "<script>alert(1)<\u2215script>",
        CLEAR,
        "a\nb\r\nc",
        "\udcff\udcfe",
        "\u202egnp.exe",
    ),
    *(
        "x" * 240,
        "A",
        "a",
        "[link](javascript:alert(1))",
        "`code` | cell",
        "é",
        "e\u0301",
        "%s{0}",
    ),
]
QUICK = [
    *("--head-only", "--backbone", "test_resnet", "--weights", "random", "--image-size", "32"),
    *("--embedding-dim", "8", "--samples", "64", "--batch-sizes", "8"),
]


class Tags(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.handlers: list[str] = []
        self.sources: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.sources |= {str(v) for k, v in attrs if k in ("src", "href")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / f"data {ATTACK}{CLEAR}"
    rng = np.random.default_rng(0)
    for name in NAMES:
        # Where capitals make no difference, one class is the other.
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            file = f"{name[:200]}{i}.png"
            Image.fromarray(pixels).save(os.fsencode(root / name / file), "png")
    return root


def test_names_made_to_harm_are_shown_and_harm_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBAL_CACHE", "cache")

    def run(script: Callable[..., Any], *arguments: Any) -> str:
        with pytest.raises(SystemExit) as exit:
            script(*arguments)
        out, err = capsys.readouterr()
        assert exit.value.code in (None, 0), err
        assert "\x1b[2J" not in out + err and "\x07" not in out + err
        return out

    search = ["--n-trials", "2", "--confirm", "1", "--final", "--export", "model"]
    said = run(main, SCRIPTS["image_folder"], ["--root", str(root), *QUICK, *search])
    url = "sqlite:///image_folder.db"
    said += run(commands.main, ["summary", url])
    run(commands.main, ["report", url, "-o", "again.html"])
    assert all(line.isprintable() for line in said.splitlines())

    for page in ("image_folder.html", "again.html"):
        text = Path(page).read_text(encoding="utf-8")
        tags = Tags(text)
        assert not tags.handlers
        assert all(s.startswith(("#", "data:image/", "https://")) for s in tags.sources)
    storage = optuna.storages.RDBStorage(url)
    (study,) = (s for s in storage.get_all_studies() if s.study_name == "image_folder")
    note = storage.get_study_system_attrs(study._study_id)["dashboard:note_str:0"]
    card = Path("model/README.md").read_text(encoding="utf-8")
    for markdown in (note, card):
        assert "<img" not in markdown.replace("\\<", "")
        assert "\x1b" not in markdown and not re.search(r"(?<!\\)\]\(javascript", markdown)
    assert "onerror" in card
