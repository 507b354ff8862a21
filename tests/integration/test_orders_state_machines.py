"""Every edge of the three machines is passable, everything else is refused and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.errors import IllegalTransition, NotFound
from orders.model import DeliveryState, Machine, OrderState, PaymentState, edges
from orders.transitions import move
from tests.order_support import Shop, open_shop

STATES: dict[Machine, type[OrderState] | type[DeliveryState] | type[PaymentState]] = {
    Machine.ORDER: OrderState,
    Machine.DELIVERY: DeliveryState,
    Machine.PAYMENT: PaymentState,
}
COLUMNS = {
    Machine.ORDER: "status",
    Machine.DELIVERY: "delivery_status",
    Machine.PAYMENT: "payment_status",
}


@pytest.fixture(scope="module")
async def shop(database: Database) -> Shop:
    return await open_shop(database)


@pytest.fixture(scope="module")
async def order_id(shop: Shop) -> str:
    return await shop.order_at("confirmed")


async def put(conn: AsyncConnection, order_id: str, machine: Machine, state: str) -> None:
    """Set a state without asking anybody, in a transaction that is going to be rolled back."""
    await conn.execute(text("ALTER TABLE orders DISABLE TRIGGER orders_check_edges"))
    await conn.execute(
        text(f"UPDATE orders SET {COLUMNS[machine]} = :state WHERE id = :id"),
        {"state": state, "id": order_id},
    )
    await conn.execute(text("ALTER TABLE orders ENABLE TRIGGER orders_check_edges"))


async def tell(conn: AsyncConnection, order_id: str) -> tuple[Any, ...]:
    """What a move may change of an order."""
    row = await conn.execute(
        text(
            "SELECT status, delivery_status, payment_status, version, history_seq,"
            " (SELECT count(*) FROM order_history WHERE order_id = o.id),"
            " (SELECT seq FROM stream_heads WHERE stream = 'order:' || o.id)"
            " FROM orders o WHERE id = :id"
        ),
        {"id": order_id},
    )
    return tuple(row.one())


@pytest.mark.parametrize("machine", list(Machine))
async def test_moves_follow_the_table(shop: Shop, order_id: str, machine: Machine) -> None:
    """Of all pairs ``order_move`` accepts exactly the edges; a refusal leaves no trace."""
    legal = edges()
    for start in STATES[machine]:
        for end in STATES[machine]:
            async with shop.database.engine.connect() as conn:
                await put(conn, order_id, machine, start.value)
                before = await tell(conn, order_id)
                point = await conn.begin_nested()
                if (machine.value, start.value, end.value) in legal:
                    assert await move(conn, order_id, end, "usr_test", "because") == start.value
                    after = await tell(conn, order_id)
                    assert after[3:] == tuple(n + 1 for n in before[3:])
                    assert end.value in after[:3]
                else:
                    with pytest.raises(IllegalTransition) as refused:
                        await move(conn, order_id, end, "usr_test")
                    assert refused.value.extra == {
                        "machine": machine.value, "state": start.value, "wanted": end.value,
                    }  # fmt: skip
                    await point.rollback()
                    assert await tell(conn, order_id) == before
                await conn.rollback()


@pytest.mark.parametrize("machine", list(Machine))
async def test_the_trigger_refuses_what_goes_past_the_door(
    shop: Shop, order_id: str, machine: Machine
) -> None:
    """A plain UPDATE of a state follows the same table."""
    legal = edges()
    column = COLUMNS[machine]
    for start in STATES[machine]:
        async with shop.database.engine.connect() as conn:
            await put(conn, order_id, machine, start.value)
            for end in STATES[machine]:
                if end is start:
                    continue
                point = await conn.begin_nested()
                statement = text(f"UPDATE orders SET {column} = :state WHERE id = :id")
                parameters = {"state": end.value, "id": order_id}
                if (machine.value, start.value, end.value) in legal:
                    await conn.execute(statement, parameters)
                else:
                    with pytest.raises(DBAPIError, match="illegal edge"):
                        await conn.execute(statement, parameters)
                await point.rollback()
            await conn.rollback()


async def test_an_order_that_is_not_there(shop: Shop) -> None:
    """Moving nothing is NotFound."""
    with pytest.raises(NotFound):
        async with shop.database.begin() as conn:
            await move(conn, "ord_none", OrderState.CONFIRMED, "usr_test")
