"""What studies survive, into ``results/reliability.json``.

::

    python benchmarks/reliability.py

A worker is killed 50 times in a study on sqlite and 50 times on PostgreSQL; a server is stopped
and started, and so is a proxy; programs sleep, start at once, and get signals.
``docs/reliability.rst`` says what is promised, ``tests/reliability`` has a short form of each. It
takes half an hour.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
import os
from pathlib import Path
import random
import signal
from tempfile import TemporaryDirectory
from typing import Any
import uuid

from database_servers import PostgreSQL
from database_servers import running_postgresql
from database_servers import running_proxy
from disasters import after
from disasters import at_the_same_instant
from disasters import restarting
from disasters import signalled
from disasters import sleeping
from disasters import staying_away
from disasters import STUDIES
from killing import killed_workers
import optuna
from record import RESULTS
from record import write_record
from sqlalchemy import create_engine


PATIENCE = 5.0
DIGITS = f"{STUDIES / 'digits.py'} --head-only --backbone test_resnet --samples 20000 --repeats 1"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="on each database")
    parser.add_argument("--rounds", type=int, default=10, help="of all else")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results: dict[str, Any] = {}
    with running_postgresql() as server:
        for name, database in (("sqlite", sqlite), ("postgresql", schema_of(server))):
            for disaster, happen in disasters(options).items():
                with TemporaryDirectory() as folder, database(folder) as url:
                    results[f"{disaster}, {name}"] = happen(url, Path(folder))
                    print(f"{disaster}, {name}:", results[f"{disaster}, {name}"], flush=True)
        with TemporaryDirectory() as folder, schema_of(server)(folder) as url:
            results["server restarted"] = restarting(
                url, Path(folder), server, options.rounds, 6 * options.rounds, options.seed
            )
            print(results["server restarted"], flush=True)
        with TemporaryDirectory() as folder, schema_of(server)(folder) as url:
            results["server gone"] = staying_away(url, Path(folder), server, PATIENCE)
            print(results["server gone"], flush=True)
    with running_proxy() as proxy, TemporaryDirectory() as folder:
        results["proxy restarted"] = restarting(
            proxy.url, Path(folder), proxy, options.rounds, 6 * options.rounds, options.seed
        )
        print(results["proxy restarted"], flush=True)
    results["signals"] = signals(3 * options.rounds, options.seed)
    print(results["signals"])
    write_record(RESULTS / "reliability.json", results)


def disasters(options: argparse.Namespace) -> dict[str, Callable[[str, Path], Any]]:
    """By name, from the URL of a new database and a folder to what became of the study."""
    return {
        "workers killed": lambda url, folder: asdict(
            killed_workers(url, folder, options.kills, options.kills // 2 + 5, options.seed)
        ),
        "sleepers": lambda url, folder: sleeping(url, folder, 6),
        "begun at once": lambda url, folder: at_the_same_instant(url, folder, 6),
    }


@contextmanager
def sqlite(folder: str) -> Iterator[str]:
    yield f"sqlite:///{folder}/study.db"


def schema_of(server: PostgreSQL) -> Callable[[str], Any]:
    """New databases on a server."""

    @contextmanager
    def schema(folder: str) -> Iterator[str]:
        name = f"cbal_{uuid.uuid4().hex}"
        engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        yield server.url.replace("/postgres?", f"/{name}?")

    return schema


def signals(n: int, seed: int) -> dict[str, int]:
    """What a study script and a command say that are interrupted at random moments from their
    first, half of them within the four seconds in which they load their modules."""
    chance = random.Random(seed)
    ends: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        os.environ["CBAL_CACHE"] = folder
        study = [*DIGITS.split(), "--n-trials", "1000", "--confirm", "0"]
        summary = ["-m", "cbal_optuna", "summary", "sqlite:///digits.db"]
        for i in range(n):
            number = (signal.SIGINT, signal.SIGTERM)[i % 2]
            moment = after(chance.uniform(0.05, (4.0, 15.0)[i // 2 % 2]))
            arguments = summary if i % 6 > 3 else study
            ends[signalled(arguments, Path(folder), number, moment)] += 1
    return dict(ends)


if __name__ == "__main__":
    main()
