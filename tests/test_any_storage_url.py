"""Whatever is given as a storage: a study, or one sentence without the password and no study.

The trials are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import os
from pathlib import Path
import socket
import warnings

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import get_storage
import pytest

from cbal_optuna import commands
from cbal_optuna import storage as storage_module
from cbal_optuna.command_line import main
from cbal_optuna.command_line import SCRIPTS
from cbal_optuna.commands import dashboard
from cbal_optuna.storage import open_storage


MANY = settings.get_profile("any input")
SECRETS = ("correct", "horse", "battery")

PASSWORDS = st.builds(
    lambda a, b: f"{SECRETS[0]}{a}{SECRETS[1]}{b}{SECRETS[2]}",
    *[st.sampled_from(["%40", *"-@:/?#% '\"\\é&="])] * 2,
)
SCHEMES = st.sampled_from(
    [*["sqlite"] * 3, "sqlite+pysqlite", "sqlite+pysqlcipher", "sqlite+aiosqlite"]
    + [*["postgresql"] * 3, "postgresql+psycopg2", "postgresql+asyncpg", "postgresql+nothing"]
    + [*["grpc"] * 3, "grpc+http", "GRPC"]
    + ["mysql", "mysql+pymysql", "mariadb", "mssql+pyodbc", "oracle", "redis", "http", "file", ""]
)
# Where a proxy listens.
SERVED = "served.invalid:13000"
HOSTS = st.sampled_from(
    [
        *["127.0.0.1"] * 2,
        "[::1]",
        "",
        "a b",
        "127.0.0.1,127.0.0.1",
        "é",
        "unix",
        "\0",
        "a\nb",
        "%2F",
    ]
)
PORTS = st.sampled_from([":1", ":1", ":0", ":x", ":99999", ":", ":-1"])
FILES = st.sampled_from(
    [*["studies.db"] * 4, "new.db", "folder", "folder/new.db", "no/new.db", "link", "loop"]
    + [":memory:", "file:studies.db", "file:new.db", "x" * 300, "a\nb.db", "💥.db", "?", "\x1b.db"]
    + ["/dev/null", "/dev/full", "/proc/self/x.db", "..", "studies.db/x.db", "", "/"]
)
OPTIONS = st.lists(
    st.builds(
        "{}={}".format,
        st.sampled_from(
            [*("password", "passwd", "dsn", "sslpassword", "odbc_connect", "options", "service")]
            + [
                *(
                    "sslmode",
                    "connect_timeout",
                    "timeout",
                    "uri",
                    "mode",
                    "nonsense",
                    "cache",
                    "vfs",
                )
            ]
        ),
        PASSWORDS | st.sampled_from(["true", "ro", "memory", "1", "x", ""]),
    ),
    max_size=2,
).map("&".join)
URLS = (
    st.builds(
        lambda scheme, user, password, host, port, file, options: (
            f"{scheme}://{user}{password and ':' + password}{'@' if user or password else ''}"
            f"{host}{port if host else ''}/{file}{options and '?' + options}"
        ),
        SCHEMES,
        st.sampled_from(["me", "me", ""]),
        PASSWORDS | st.just(""),
        HOSTS,
        PORTS,
        FILES,
        OPTIONS,
    )
    | st.builds(
        lambda scheme, file, options: f"{scheme}:///{file}{options and '?' + options}",
        SCHEMES,
        FILES,
        OPTIONS | st.just(""),
    )
    | st.builds(
        lambda user, address, rest: f"grpc://{user}{address}{rest}",
        st.sampled_from(["", "", "me@"]),
        st.just(SERVED) | st.builds("{}{}".format, HOSTS, PORTS),
        st.sampled_from(["", "", "/", "/studies.db", "?timeout=1", "/../x"]),
    )
)
COMMANDS = [
    ["summary"],
    ["summary", "--json"],
    ["report"],
    ["compare"],
    ["export", "-o", "out"],
    ["dashboard"],
    ["resume"],
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with a study that a script has not made, and one of several objectives."""
    path = tmp_path_factory.mktemp("storage") / "studies.db"
    storage = open_storage(f"sqlite:///{path}")
    study = optuna.create_study(storage=storage, study_name="one", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("balance", 0.1, 10, log=True), 3)
    storage.engine.dispose()
    return path.read_bytes()


@pytest.fixture(autouse=True)
def silent() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, database: bytes) -> Iterator[str]:
    """The address of a proxy of such a file."""
    server_module = pytest.importorskip("optuna.storages._grpc.server")
    pytest.importorskip("grpc")
    path = tmp_path_factory.mktemp("served") / "studies.db"
    path.write_bytes(database)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = int(free.getsockname()[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = get_storage(open_storage(f"sqlite:///{path}"))
        server = server_module.make_server(storage, "127.0.0.1", number)
    server.start()
    yield f"127.0.0.1:{number}"
    server.stop(None).wait()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With proxies that are not there."""
    monkeypatch.setattr(storage_module, "_PROXY_TIMEOUT_SECONDS", 0.2)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What becomes of a file."""
    if not draw(st.booleans()):
        return lambda content: content
    cut = draw(st.booleans())
    place, put = draw(st.floats(0, 1)), draw(st.binary(max_size=20))

    def damaged(content: bytes) -> bytes:
        start = int(place * len(content))
        return content[:start] + (b"" if cut else put + content[start + len(put) :])

    return damaged


def fill(content: bytes) -> None:
    Path("studies.db").write_bytes(content)
    Path("folder").mkdir()
    os.symlink("studies.db", "link")
    os.symlink("loop", "loop")


def assert_nothing_said(sentence: str) -> None:
    assert not any(secret in sentence for secret in SECRETS), sentence


@MANY
@given(url=URLS | st.text(max_size=20), damage=damages())
def test_a_storage_is_one_of_a_study_or_a_sentence(
    study_or_sentence: Callable[..., str],
    database: bytes,
    served: str,
    url: str,
    damage: Callable[[bytes], bytes],
) -> None:
    url = url.replace(SERVED, served)
    arguments = ["--head-only", "--backbone", "test_resnet", "--samples", "512", "--storage", url]
    sentence = study_or_sentence(
        lambda: main(SCRIPTS["digits"], arguments),
        lambda: fill(damage(database)),
        may_fail=True,
    )
    assert_nothing_said(sentence)


@MANY
@given(
    url=URLS | st.text(max_size=20),
    damage=damages(),
    command=st.sampled_from(COMMANDS),
    more=st.lists(URLS, max_size=1),
)
def test_a_command_says_a_sentence_of_any_storage(
    study_or_sentence: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    database: bytes,
    served: str,
    url: str,
    damage: Callable[[bytes], bytes],
    command: list[str],
    more: list[str],
) -> None:
    url, *more = [each.replace(SERVED, served) for each in (url, *more)]
    monkeypatch.setattr(dashboard, "server_of", refused)
    name, *options = command
    sentence = study_or_sentence(
        lambda: commands.main([name, url, *options, *more]),
        lambda: fill(damage(database)),
        may_fail=True,
    )
    assert_nothing_said(sentence)


def refused(*arguments: object) -> None:
    raise ValueError("`--port` is taken.")
