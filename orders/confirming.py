"""Between two commits of a checkout: reading the order that was placed, and confirming it.

Checkouts that were committed together get here together, and those that a gateway has answered
meet again: each of both steps is one statement for all that wait (``kit.lane``), the second one
transaction.  What is not plain is left to the routine for one, and by that to the step-by-step way.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias

import asyncpg

from kit.idempotency import StoredAnswer
from kit.lane import Lane
from kit.sql import load
from orders.views import Record

_ORDER_VIEWS = load("orders", "order_views")
_CONFIRM = load("orders", "confirm_authorised")
_CONFIRM_TOGETHER = load("orders", "confirm_authorised_together")

CREATED = 201

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that was just placed, and the operation that asks for its money."""

    order_id: str
    operation_id: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A gateway's plain yes, and the answer that the customer gets.

    body: made before, of the order in ``version``, as the yes will leave it.
    """

    operation_id: str
    reference: str | None
    code: str | None
    actor: str
    key: str
    order_id: str
    version: int
    body: bytes


class Confirmer:
    """Both steps for the checkouts of one process.  Use as a context."""

    def __init__(self, pool: Pool) -> None:
        self._placed: Lane[Placed, Record | None] = Lane(
            "read_placed",
            lambda one: read_placed(pool, one),
            lambda many: _read_together(pool, many),
        )
        self._confirmed: Lane[Confirmation, StoredAnswer | None] = Lane(
            "confirm",
            lambda one: confirm(pool, one),
            lambda many: _confirm_together(pool, many),
            apart=lambda one: one.operation_id,
        )
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._confirmed)
        await self._open.enter_async_context(self._placed)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def read_placed(self, placed: Placed) -> Record | None:
        """What ``sql/order_views.sql`` shows of an order; None when there is no such order."""
        return await self._placed.submit(placed)

    async def confirm(self, confirmation: Confirmation) -> StoredAnswer | None:
        """Write a yes and its answer down; the answer that stands, None if it was not plain."""
        return await self._confirmed.submit(confirmation)


async def read_placed(pool: Pool, placed: Placed) -> Record | None:
    """``Confirmer.read_placed`` for one."""
    (found,) = await _read_together(pool, [placed])
    return found


async def _read_together(pool: Pool, placed: Sequence[Placed]) -> list[Record | None]:
    rows = await pool.fetch(
        _ORDER_VIEWS.text, [one.order_id for one in placed], [one.operation_id for one in placed]
    )
    found: dict[str, Record] = {row["id"]: dict(row) for row in rows}
    return [found.get(one.order_id) for one in placed]


async def confirm(pool: Pool, one: Confirmation) -> StoredAnswer | None:
    """``Confirmer.confirm`` for one."""
    stands = await pool.fetchrow(
        _CONFIRM.text, one.operation_id, one.reference, one.code, one.actor, one.key, CREATED,
        one.body, one.order_id, one.version,
    )  # fmt: skip
    return None if stands is None else StoredAnswer(stands["status"], stands["answer"])


async def _confirm_together(pool: Pool, many: Sequence[Confirmation]) -> list[StoredAnswer | None]:
    rows = await pool.fetch(
        _CONFIRM_TOGETHER.text,
        [one.operation_id for one in many], [one.reference for one in many],
        [one.code for one in many], [one.actor for one in many], [one.key for one in many],
        [one.order_id for one in many], [one.version for one in many],
        [one.body for one in many], CREATED,
    )  # fmt: skip
    stands = {row["operation_id"]: StoredAnswer(row["status"], row["answer"]) for row in rows}
    return [stands.get(one.operation_id) for one in many]
