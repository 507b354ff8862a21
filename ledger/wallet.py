"""Wallets: money that a customer has with us, as the ledger's account ``wallet`` says.

An order *holds* its part when it is placed (nothing is posted), and *spends* it when the goods
are delivered or a fee is due (posted); what it does not spend is free again.  Balances follow the
postings by a trigger, and can never fall below what is held.

Lock order: the order's row first, then the wallet's, then stock.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import Query
from ledger.chart import Account
from ledger.postings import Posting, credit, debit, post
from ledger.tables import wallets

_HOLD = Query(
    "ledger.wallet_hold", "SELECT wallet_hold($1::text, $2::text, $3::text, $4::bigint) AS amount"
)
_RELEASE = Query("ledger.wallet_release", "SELECT wallet_release($1::text) AS amount")


@dataclass(frozen=True, slots=True)
class Wallet:
    """Minor units; ``free_minor`` is what a new order may take."""

    user_id: str
    currency: str
    balance_minor: int
    held_minor: int

    @property
    def free_minor(self) -> int:
        return self.balance_minor - self.held_minor


async def read(conn: AsyncConnection, user_id: str) -> list[Wallet]:
    """A customer's wallets, one a currency; none before the first credit."""
    rows = await conn.execute(
        select(wallets).where(wallets.c.user_id == user_id).order_by(wallets.c.currency)
    )
    return [Wallet(r.user_id, r.currency, r.balance_minor, r.held_minor) for r in rows]


async def hold(
    conn: AsyncConnection, user_id: str, currency: str, order_id: str, limit_minor: int
) -> int:
    """Set aside what is free, at most ``limit_minor``; returns how much (checkout does this)."""
    return int((await _HOLD.one(conn, user_id, currency, order_id, limit_minor)).amount)


async def release(conn: AsyncConnection, order_id: str) -> int:
    """Give an order's hold free again; returns how much it was.  Doing it twice does nothing."""
    return int((await _RELEASE.one(conn, order_id)).amount)


async def spend(
    conn: AsyncConnection, order_id: str, user_id: str, currency: str, amount_minor: int
) -> None:
    """Take ``amount_minor`` of what the order holds for good, and give the rest free again.

    The customer owes that much less.  Spending twice for one order does nothing.
    """
    held = await release(conn, order_id)
    if held == 0:
        return
    assert 0 <= amount_minor <= held, f"{order_id} spends {amount_minor} of {held}"
    await post(
        conn, f"wallet:{order_id}", "wallet_spend", currency,
        spending(user_id, amount_minor), order_id,
    )  # fmt: skip


async def refund(
    conn: AsyncConnection,
    key: str,
    order_id: str,
    user_id: str,
    currency: str,
    amount_minor: int,
) -> bool:
    """Give money of an order back into the wallet, once per ``key``; False when it was before."""
    return await post(
        conn, f"wallet_refund:{key}", "wallet_refund", currency,
        refunding(user_id, amount_minor), order_id,
    )  # fmt: skip


async def give_credit(
    conn: AsyncConnection, key: str, user_id: str, currency: str, amount_minor: int, reason: str
) -> bool:
    """Store credit that no order paid for: our cost, by ``reason``.  Once per ``key``."""
    return await post(
        conn, f"store_credit:{key}", "store_credit", currency,
        [
            debit(Account.STORE_CREDIT, amount_minor, reason),
            credit(Account.WALLET, amount_minor, user_id),
        ],
    )  # fmt: skip


def spending(user_id: str, amount_minor: int) -> list[Posting]:
    """The customer paid from the wallet: we owe them, and they owe us, that much less."""
    return [
        debit(Account.WALLET, amount_minor, user_id),
        credit(Account.CUSTOMER_RECEIVABLE, amount_minor),
    ]


def refunding(user_id: str, amount_minor: int) -> list[Posting]:
    """What the customer had paid is owed to them again, in the wallet."""
    return [
        debit(Account.CUSTOMER_RECEIVABLE, amount_minor),
        credit(Account.WALLET, amount_minor, user_id),
    ]
