"""Named queries: one ``.sql`` file each, with a header that states purpose and parameters.

A query is loaded once, when its module is imported, and runs either on a SQLAlchemy connection
(inside a use case's transaction) or on a bare asyncpg connection.  Parameters are ``$1``, ``$2``…
in the order of the header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import orjson
from sqlalchemy import CursorResult, Row
from sqlalchemy.ext.asyncio import AsyncConnection

# A row's columns are typed by the statement, which Python cannot read.
_Columns = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A statement with ``$n`` parameters."""

    name: str
    text: str

    async def run(self, conn: AsyncConnection, *parameters: object) -> CursorResult[*_Columns]:
        return await conn.exec_driver_sql(self.text, parameters)

    async def all(self, conn: AsyncConnection, *parameters: object) -> Sequence[Row[*_Columns]]:
        return (await self.run(conn, *parameters)).all()

    async def one(self, conn: AsyncConnection, *parameters: object) -> Row[*_Columns]:
        return (await self.run(conn, *parameters)).one()

    async def first(self, conn: AsyncConnection, *parameters: object) -> Row[*_Columns] | None:
        return (await self.run(conn, *parameters)).first()

    async def dicts(self, conn: AsyncConnection, *parameters: object) -> list[dict[str, Any]]:
        return [dict(row) for row in (await self.run(conn, *parameters)).mappings()]


def load(package: str, name: str) -> Query:
    """The query in ``<package>/sql/<name>.sql``."""
    text = resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return Query(f"{package}.{name}", text)


def json_parameter(value: Mapping[str, object] | Sequence[object]) -> str:
    """A value for a ``jsonb`` parameter."""
    # SQLAlchemy's column names are a subclass of str, which orjson takes for a key only if told.
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
