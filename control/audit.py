"""The audit log: one row for each thing that staff do with a power that customers do not have.

A row is written in the transaction of the deed, so there is neither a deed without its row nor a
row without its deed.  The application's database role can add rows and read them; nobody can change
or remove one (``server/database_role.py``, and a trigger for whoever is more than that role).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from control.tables import audit_log
from kit.clock import database_now
from kit.ids import new_id
from kit.sql import load

_LIST = load("control", "audit_rows")


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done.

    ``action`` is a verb with its subject in front (``order.assign``); ``before`` and ``after`` are
    the parts of the object that the deed is about, without names, addresses and telephone numbers.
    """

    action: str
    object_kind: str
    object_id: str
    city_id: str | None = None
    store_id: str | None = None
    reason: str | None = None
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page of the log: ``city_ids`` None is every city, and rows that belong to none."""

    city_ids: Sequence[str] | None
    actor: str | None = None
    action: str | None = None
    object_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before_id: str | None = None
    limit: int = 20


async def record(conn: AsyncConnection, actor: str, role: str, deed: Deed) -> str:
    """Write a deed down in its own transaction; returns the id of the row.

    The request's id is the one that its log lines carry.
    """
    audit_id = new_id("aud")
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    await conn.execute(
        insert(audit_log).values(
            id=audit_id,
            at=await database_now(conn),
            actor=actor,
            role=role,
            action=deed.action,
            object_kind=deed.object_kind,
            object_id=deed.object_id,
            city_id=deed.city_id,
            store_id=deed.store_id,
            reason=deed.reason,
            before=None if deed.before is None else dict(deed.before),
            after=None if deed.after is None else dict(deed.after),
            request_id=None if request_id is None else str(request_id),
        )
    )
    return audit_id


async def rows(conn: AsyncConnection, wanted: Wanted) -> list[dict[str, Any]]:
    """Rows of the log, newest first."""
    return await _LIST.dicts(
        conn,
        None if wanted.city_ids is None else list(wanted.city_ids),
        wanted.actor,
        wanted.action,
        wanted.object_id,
        wanted.since,
        wanted.until,
        wanted.before_id,
        wanted.limit,
    )
