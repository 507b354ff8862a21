"""Checkouts that wait for the database, durably on this machine's disk.

When Postgres does not answer, a checkout whose quote is known to be good is written here and told
apart honestly from an order: accepted, not placed, nothing charged.  It is placed under the
customer's own idempotency key once the database is back, so a client that tries again meanwhile
never gets two orders.

One SQLite file with full synchronisation: what ``add`` has returned survives a power cut.  It is
bounded in rows and in bytes; what does not fit is refused, not lost.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
from pydantic import BaseModel, Field

from kit.errors import Busy
from kit.idempotency import check_same_body
from orders.checkout import CheckoutRequest

FILE_NAME: Final = "checkouts.sqlite"
RETRY_AFTER_S: Final = 15
_PAGE_BYTES: Final = 4096
_BUSY_TIMEOUT_S: Final = 2.0

T = TypeVar("T")


class SpoolFull(Busy):
    code = "checkout_queue_full"
    title = "Orders cannot be taken at the moment"


class SpoolSettings(BaseModel):
    """``directory`` None: nothing is queued, and a checkout without a database is a 503."""

    directory: Path | None = None
    max_waiting: int = Field(5_000, ge=1)
    max_bytes: int = Field(64 * 1024 * 1024, ge=64 * 1024)
    # Requests that wait for the disk at once; more are refused.
    max_writing: int = Field(200, ge=1)
    # Virtual seconds.  Nobody wants groceries that were asked for longer ago.
    max_age_s: float = Field(900.0, gt=0)


@dataclass(frozen=True, slots=True)
class QueuedCheckout:
    """``order_id`` is the id that the order will have; ``accepted_at`` is virtual time."""

    order_id: str
    accepted_at: datetime
    request: CheckoutRequest


@dataclass(frozen=True, slots=True)
class SpoolCount:
    """How many wait, and since when the oldest does."""

    waiting: int
    oldest_at: datetime | None


class CheckoutSpool:
    """The file, and the one thread that touches it."""

    def __init__(self, directory: Path, settings: SpoolSettings) -> None:
        self._settings = settings
        self._path = directory / FILE_NAME
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._db: sqlite3.Connection | None = None
        self._writing = 0

    @classmethod
    async def open(cls, directory: Path, settings: SpoolSettings) -> Self:
        """Open or make the file, readable by its owner alone.  Raises ``OSError``."""
        spool = cls(directory, settings)
        await spool._in_thread(spool._open)
        return spool

    async def add(self, entry: QueuedCheckout) -> QueuedCheckout:
        """Keep a checkout; what is kept already under its key comes back instead.

        Raises ``SpoolFull`` and ``KeyReused``.
        """
        if self._writing >= self._settings.max_writing:
            raise _full()
        self._writing += 1
        try:
            return await self._in_thread(lambda: self._add(entry))
        except sqlite3.Error as error:
            # Full disk, full file, or a disk that fails: in any case nothing was promised.
            raise _full() from error
        finally:
            self._writing -= 1

    async def waiting(self, limit: int) -> list[QueuedCheckout]:
        """The oldest that wait, in the order in which they came."""
        return await self._in_thread(lambda: self._read("ORDER BY n LIMIT ?", limit))

    async def find(self, order_id: str) -> QueuedCheckout | None:
        found = await self._in_thread(lambda: self._read("WHERE order_id = ?", order_id))
        return found[0] if found else None

    async def count(self) -> SpoolCount:
        return await self._in_thread(self._count)

    async def remove(self, order_id: str) -> None:
        """Forget a checkout of which the database knows what became."""
        await self._in_thread(lambda: self._remove(order_id))

    async def close(self) -> None:
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made before SQLite does, so that it is never readable by others, its journal included.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA max_page_count = {self._settings.max_bytes // _PAGE_BYTES}")
        db.execute(
            "CREATE TABLE IF NOT EXISTS checkouts ("
            " n INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,"
            " key TEXT NOT NULL, accepted_at TEXT NOT NULL, request BLOB NOT NULL,"
            " UNIQUE (user_id, key))"
        )
        self._db = db

    @property
    def _open_db(self) -> sqlite3.Connection:
        assert self._db is not None, "the spool is open"
        return self._db

    def _add(self, entry: QueuedCheckout) -> QueuedCheckout:
        request = entry.request
        known = self._read("WHERE user_id = ? AND key = ?", request.user_id, request.key)
        if known:
            check_same_body(known[0].request.body_hash, request.body_hash)
            return known[0]
        if self._count().waiting >= self._settings.max_waiting:
            raise _full()
        self._open_db.execute(
            "INSERT INTO checkouts (order_id, user_id, key, accepted_at, request)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                entry.order_id, request.user_id, request.key, entry.accepted_at.isoformat(),
                msgspec.json.encode(request),
            ),
        )  # fmt: skip
        # Another process of this machine may have been first with the same key.
        (kept,) = self._read("WHERE user_id = ? AND key = ?", request.user_id, request.key)
        check_same_body(kept.request.body_hash, request.body_hash)
        return kept

    def _read(self, where: str, *parameters: object) -> list[QueuedCheckout]:
        with closing(
            self._open_db.execute(
                f"SELECT order_id, accepted_at, request FROM checkouts {where}",  # noqa: S608  (our own text)
                parameters,
            )
        ) as rows:
            return [
                QueuedCheckout(
                    order_id,
                    datetime.fromisoformat(accepted_at),
                    msgspec.json.decode(request, type=CheckoutRequest),
                )
                for order_id, accepted_at, request in rows
            ]

    def _count(self) -> SpoolCount:
        waiting, oldest = self._open_db.execute(
            "SELECT count(*), min(accepted_at) FROM checkouts"
        ).fetchone()
        return SpoolCount(waiting, datetime.fromisoformat(oldest) if oldest else None)

    def _remove(self, order_id: str) -> None:
        self._open_db.execute("DELETE FROM checkouts WHERE order_id = ?", (order_id,))

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _full() -> SpoolFull:
    return SpoolFull(
        "We cannot take orders at this moment; nothing was charged. Try again shortly.",
        retry_after_s=RETRY_AFTER_S,
    )
