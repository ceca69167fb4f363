"""Text for a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """A text whose characters all show, lines being kept: names of files and of studies may have
    codes that a terminal obeys, or bytes that no output takes."""
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text)
    )
