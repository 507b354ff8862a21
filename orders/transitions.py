"""Moving an order along its state machines: the only door to ``order_move``."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import IllegalTransition, NotFound
from kit.sql import Query
from orders.model import DeliveryState, Machine, OrderState, PaymentState

SYSTEM = "system"

_MOVE = Query(
    "orders.move",
    "SELECT order_move($1::text, $2::text, $3::text, $4::text, $5::text)",
)


async def move(
    conn: AsyncConnection,
    order_id: str,
    to: OrderState | DeliveryState | PaymentState,
    actor: str,
    reason: str | None = None,
) -> str:
    """Move one machine of an order in the caller's transaction; returns the state it left.

    Writes the history entry and the ``order.status`` event.  Raises ``NotFound``, or
    ``IllegalTransition`` when the machine has no such edge; the transaction is then lost, which
    is what undoes everything else that the use case did.
    """
    match to:
        case OrderState():
            machine = Machine.ORDER
        case DeliveryState():
            machine = Machine.DELIVERY
        case PaymentState():
            machine = Machine.PAYMENT
    try:
        row = await _MOVE.one(conn, order_id, machine.value, to.value, actor, reason)
    except DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None)
        if sqlstate == "DS404":
            raise NotFound("There is no such order.") from error
        if sqlstate == "DS409":
            raise illegal(machine, error, to.value) from error
        raise
    return str(row[0])


def illegal(machine: Machine, error: DBAPIError, to: str) -> IllegalTransition:
    detail: str = getattr(getattr(error.orig, "__cause__", None), "detail", None) or ""
    state = detail.split(":")[1] if detail.count(":") == 2 else "in another state"
    return IllegalTransition(
        f"The {machine} is {state} and cannot become {to}.",
        extra={"machine": machine.value, "state": state, "wanted": to},
    )
