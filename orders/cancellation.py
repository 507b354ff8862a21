"""Cancelling an order: the rules applied, and everything undone in one transaction.

Who may cancel at which stage and what it costs is data: ``orders.cancellation_rules``.
"""

from __future__ import annotations

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.errors import IllegalTransition
from ledger.postings import post
from orders import cancellation_rules, paying, postings
from orders.cancellation_rules import Party, Terms, fee_by_rule
from orders.model import DeliveryState, OrderState, PaymentState
from orders.payment_flow import CASH
from orders.rows import OrderRow, lock_order
from orders.settings import CancellationFees
from orders.substitution_rows import withdraw_open
from orders.tables import order_cancellations
from orders.transitions import move
from orders.withdrawal import take_off_trip
from stores import picking, reservations
from stores.picking import PickStatus

_DELIVERY_OPEN = frozenset(
    {
        DeliveryState.UNASSIGNED,
        DeliveryState.OFFERED,
        DeliveryState.ASSIGNED,
        DeliveryState.AT_STORE,
    }
)
_NO_FEES = CancellationFees(picking_minor=0, cap_minor=0)


def preview(
    order: OrderRow, party: Party, fees: CancellationFees, charge_minor: int | None = None
) -> Terms:
    """What cancelling would mean for this order now; changes nothing."""
    held, chargeable = _money_at_stake(order)
    return cancellation_rules.terms(
        party, OrderState(order.status), fees,
        held_minor=held, chargeable_minor=chargeable, charge_minor=charge_minor,
    )  # fmt: skip


def _money_at_stake(order: OrderRow) -> tuple[int, int]:
    """(what is held of the customer's money, how much of it a fee may keep)."""
    if order.payment_status != PaymentState.AUTHORISED:
        return 0, 0
    if order.gateway == CASH:
        # Nobody has paid at a door yet; there is only what the wallet has set aside.
        return order.wallet_minor, order.wallet_minor
    return order.total_minor, order.total_minor - order.refunded_minor


async def cancel_as_customer(
    conn: AsyncConnection, order_id: str, actor: str, reason: str, fee_minor: int
) -> Terms:
    """Cancel for the customer; while the order is being picked that costs ``fee_minor``.

    Raises IllegalTransition once the order is packed.
    """
    order = await lock_order(conn, order_id)
    fees = CancellationFees(picking_minor=fee_minor, cap_minor=fee_minor)
    terms = _allowed(order, preview(order, Party.CUSTOMER, fees))
    await _cancel(conn, order, Party.CUSTOMER, actor, reason, terms)
    return terms


async def cancel_as_staff(
    conn: AsyncConnection, order_id: str, actor: str, reason: str, party: Party = Party.STORE
) -> Terms:
    """Cancel for the store or support, free of charge.

    Raises IllegalTransition after the handover.
    """
    order = await lock_order(conn, order_id)
    terms = _allowed(order, preview(order, party, _NO_FEES))
    await _cancel(conn, order, party, actor, reason, terms)
    return terms


async def cancel_as_support(
    conn: AsyncConnection,
    order_id: str,
    actor: str,
    reason: str,
    fees: CancellationFees,
    charge_minor: int | None,
) -> Terms:
    """Cancel for support, which charges ``charge_minor``; None is what the rule says.

    Raises IllegalTransition after the handover, Invalid for more than the city's cap.
    """
    order = await lock_order(conn, order_id)
    if charge_minor is None:
        charge_minor = fee_by_rule(OrderState(order.status), fees)
    terms = _allowed(order, preview(order, Party.SUPPORT, fees, charge_minor))
    await _cancel(conn, order, Party.SUPPORT, actor, reason, terms)
    return terms


async def cancel(
    conn: AsyncConnection, order_id: str, actor: str, reason: str, *, fee_minor: int = 0
) -> None:
    """Undo an order that has not left the store, whoever wants it: the system's own way.

    Raises IllegalTransition after the handover.
    """
    order = await lock_order(conn, order_id)
    held, chargeable = _money_at_stake(order)
    fee = min(fee_minor, chargeable)
    terms = Terms(allowed=True, fee_minor=fee, refund_minor=held - fee)
    await _cancel(conn, order, Party.SYSTEM, actor, reason, terms)


def _allowed(order: OrderRow, terms: Terms) -> Terms:
    if terms.allowed:
        return terms
    raise IllegalTransition(
        terms.reason or "The order can no longer be cancelled.",
        extra={"machine": "order", "state": order.status, "wanted": "cancelled"},
    )


async def _cancel(
    conn: AsyncConnection, order: OrderRow, party: Party, actor: str, reason: str, terms: Terms
) -> None:
    """States (and with them the delivery slot), money, pick task, rider, stock, in that order."""
    await move(conn, order.id, OrderState.CANCELLED, actor, reason)
    if order.delivery_status in _DELIVERY_OPEN:
        await move(conn, order.id, DeliveryState.CANCELLED, actor, reason)
    await conn.execute(
        insert(order_cancellations).values(
            order_id=order.id, party=party.value, actor=actor, reason=reason, stage=order.status,
            fee_minor=terms.fee_minor, refund_minor=terms.refund_minor,
            at=await database_now(conn),
        )
    )  # fmt: skip
    await _give_back_money(conn, order, terms.fee_minor)
    task = await picking.of_order(conn, order.id)
    if task is not None:
        await picking.set_status(conn, task["id"], PickStatus.CANCELLED)
    await take_off_trip(conn, order.id, "order_cancelled")
    await withdraw_open(conn, order.id)
    await reservations.lock_stock(conn, order.id)
    await reservations.release(conn, order.id, actor)
    await reservations.restock(conn, order.id, actor)
    if task is not None:
        await picking.announced(conn, task["id"])


async def _give_back_money(conn: AsyncConnection, order: OrderRow, fee_minor: int) -> None:
    # Before the handover nothing is captured; pending or unknown: when the gateway has answered,
    # payment_flow voids a success.
    if not fee_minor:
        await paying.let_go(conn, order)
        return
    await paying.collect_fee(conn, order, fee_minor)
    await post(
        conn, f"cancellation:{order.id}", "cancellation_fee", order.currency,
        postings.cancellation_fee(fee_minor), order.id,
    )  # fmt: skip
