"""Passwords of databases, which nothing that people read repeats."""

from __future__ import annotations

from itertools import chain
import re

from sqlalchemy import URL


# In a text nobody knows where a URL ends whose password or options have blanks or an @, so the
# rest of the line is left out. What is masked already stays.
_PASSWORD = re.compile(r"://[^\s:/@]*:(?!\*\*\*@).*@.*")
_OPTIONS = re.compile(r"(://[^?]*\?)(?!\*\*\*).+")
# Those that hold none, and whose values help to find out what is wrong.
_HARMLESS = ("host", "port")


def masked(url: URL) -> str:
    """A URL without its password, and without its options: drivers take passwords as options, too,
    under names of their own."""
    shown = url.set(query={}).render_as_string(hide_password=True)
    return f"{shown}?***" if url.query else shown


def without_passwords(text: str, url: URL | None = None) -> str:
    """A text with ``***`` for the passwords and options of URLs in it.

    Args:
        text:
            For people.
        url:
            Of a database whose password and options may stand in the text by themselves, as
            drivers say what they were given.
    """
    if url is not None:
        options = [v for k, v in url.normalized_query.items() if k not in _HARMLESS]
        secrets = sorted({str(url.password or ""), *chain(*options)} - {""}, key=len)
        for secret in reversed(secrets):
            # Some say it as Python writes it, others the part that they could not read.
            parts = [part for part in re.split(r"\W+", secret) if len(part) > 3]
            for said in (secret, repr(secret)[1:-1], *parts):
                text = re.sub(rf"(?<!\w){re.escape(said)}(?!\w)", "***", text)
    return _OPTIONS.sub(r"\1***", _PASSWORD.sub("://***", text))
