"""Cash in riders' hands: taken at doors, handed in at stores, or kept as part of the pay."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.ids import new_id
from kit.wire import money
from ledger.chart import Account
from ledger.errors import MoreThanHeld
from ledger.postings import credit, debit, post
from ledger.tables import rider_cash, rider_deposits


async def held(conn: AsyncConnection, rider_id: str) -> dict[str, int]:
    """Minor units in the rider's hands, by currency."""
    rows = await conn.execute(
        select(rider_cash.c.currency, rider_cash.c.cash_minor).where(
            rider_cash.c.rider_id == rider_id
        )
    )
    return {row.currency: row.cash_minor for row in rows}


async def lock_held(conn: AsyncConnection, rider_id: str, currency: str) -> int:
    """The same in one currency, locked until the end of the transaction."""
    found = await conn.scalar(
        select(rider_cash.c.cash_minor)
        .where(rider_cash.c.rider_id == rider_id, rider_cash.c.currency == currency)
        .with_for_update()
    )
    return int(found or 0)


async def deposit(
    conn: AsyncConnection,
    rider_id: str,
    store_id: str | None,
    amount_minor: int,
    currency: str,
    reference: str,
    actor: str,
) -> str:
    """The rider hands cash in: to a store's till, or (without a store) to the bank.

    Returns the deposit's id.  Raises MoreThanHeld.
    """
    assert amount_minor > 0
    has = await lock_held(conn, rider_id, currency)
    if amount_minor > has:
        raise MoreThanHeld(
            "The rider does not hold that much cash; count it again.",
            extra={"held": money(has, currency)},
        )
    deposit_id = new_id("dep")
    key = f"deposit:{deposit_id}"
    to = (
        debit(Account.BANK, amount_minor, "riders")
        if store_id is None
        else debit(Account.STORE_CASH, amount_minor, store_id)
    )
    await post(
        conn, key, "rider_deposit", currency,
        [to, credit(Account.RIDER_CASH, amount_minor, rider_id)],
    )  # fmt: skip
    await conn.execute(
        insert(rider_deposits).values(
            id=deposit_id, rider_id=rider_id, store_id=store_id, amount_minor=amount_minor,
            currency=currency, reference=reference, actor=actor, at=await database_now(conn),
            transaction_key=key,
        )
    )  # fmt: skip
    return deposit_id
