"""Whether the tables of a database are those of this version of Optuna."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import optuna
from optuna.storages._rdb import models
from sqlalchemy import Connection


_MIGRATIONS = Path(models.__file__).parent / "alembic"
_REVISIONS = "alembic_version"
_VERSION = "version_info"


def foreign_tables(tables: Set[str], *, shared: bool) -> Set[str]:
    """Those that another program has made, as far as they are in the way.

    Args:
        tables:
            Of the database.
        shared:
            Whether it may have tables of several programs.
    """
    ours = models.BaseModel.metadata.tables.keys()
    if _VERSION in tables:
        return set()
    # A sqlite file that is being made has a few of Optuna's, or one whose making was cut off.
    return tables & {"studies", "trials"} if shared else tables - ours


def schema_complaint(connection: Connection, tables: Set[str], database: str) -> str | None:
    """Why Optuna cannot use the tables, in a sentence; :obj:`None` if it can. Nothing is written.

    Args:
        connection:
            To the database.
        tables:
            That it has.
        database:
            As people know it.
    """
    if _VERSION not in tables:
        return None
    made_by = connection.exec_driver_sql(
        f"SELECT schema_version, library_version FROM {_VERSION}"
    ).first()
    if made_by is None:
        return None
    schema, version = made_by
    revision = None
    if _REVISIONS in tables:
        revision = connection.exec_driver_sql(f"SELECT version_num FROM {_REVISIONS}").scalar()
    # Imported here, as it logs that it is.
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_MIGRATIONS))
    if revision == scripts.get_current_head() or (
        revision is None and schema == models.SCHEMA_VERSION
    ):
        return None
    if revision is not None and revision not in {s.revision for s in scripts.walk_revisions()}:
        return (
            f"`storage` {database} was made by Optuna {version}, which is newer than the "
            f"{optuna.__version__} that is installed; update it with `pip install -U optuna`."
        )
    return (
        f"`storage` {database} was made by Optuna {version}, with other tables than Optuna "
        f"{optuna.__version__} has; `optuna storage upgrade --storage {database}` changes them, "
        "after which the older one cannot use them any more."
    )
