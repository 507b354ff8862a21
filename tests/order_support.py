"""A shop in this process: orders driven step by step through the use cases, on a real database.

The gateway is scripted: every operation succeeds unless a test says what comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.result import Explanation
from dispatch.result import Stop as PlannedStop
from dispatch.result import StopKind as PlannedKind
from dispatch.result import Trip as PlannedTrip
from geo.distances import Point
from geo.zones import ZoneIndex, zone_from_geojson
from identity.model import Role
from identity.repository import add_user
from kit.clock import Clock, load_clock
from kit.db import Database
from kit.ids import new_id
from kit.relay import relay_batch
from ledger import wallet
from orders import deliveries, dispatching, offers, picking
from orders.checkout import CheckoutAnswer, CheckoutRequest, place_order
from orders.deliveries import Proof
from orders.model import PaymentMethod, Substitution
from orders.payment_flow import CASH, Gateways, ask
from orders.payment_outcomes import settle
from orders.quotes import QuoteRequest, WantedLine, create_quote
from orders.settings import OrderSettings
from orders.territory import StorePlace, Territory
from payments import operations
from payments.gateway_cash import CashGateway
from payments.gateway_wallet import WALLET, WalletGateway
from payments.settings import PaymentSettings
from riders import leases, shifts, trips
from riders.model import Trip
from riders.settings import RiderSettings
from server.consumers import CONSUMERS
from stores import picking as pick_tasks
from tests.cities import Place, Product, make_place, put_on_sale
from tests.scripted_gateway import ScriptedGateway

STAGES = (
    "confirmed", "picking", "packed", "offered", "assigned", "at_store", "collected", "at_door",
    "delivered", "settled",
)  # fmt: skip


@dataclass
class Shop:
    """One store, its picker and riders, a customer, and the settings that apply."""

    database: Database
    place: Place
    territory: Territory
    clock: Clock
    customer_id: str
    gateway: ScriptedGateway
    gateways: Gateways
    settings: OrderSettings = field(default_factory=OrderSettings)
    rider_settings: RiderSettings = field(default_factory=RiderSettings)

    @property
    def picker_id(self) -> str:
        return self.place.pickers[0].user_id

    @property
    def rider_id(self) -> str:
        rider_id = self.place.riders[0].rider_id
        assert rider_id is not None
        return rider_id

    @property
    def rider_user_id(self) -> str:
        return self.place.riders[0].user_id

    async def stock(self, units: int, *prices_minor: int) -> list[Product]:
        async with self.database.begin() as conn:
            return await put_on_sale(conn, self.place.store, units, prices_minor or (6_000,))

    async def quote(
        self,
        lines: dict[str, int],
        tip_minor: int = 0,
        slot: datetime | None = None,
        coupon: str | None = None,
    ) -> str:
        request = QuoteRequest(
            user_id=self.customer_id,
            store_id=self.place.store.id,
            lines=tuple(WantedLine(sku, quantity) for sku, quantity in lines.items()),
            dropoff=Point(self.place.store.lat + 0.004, self.place.store.lon),
            address="1 Test Street",
            tip_minor=tip_minor,
            slot=slot,
            coupon=coupon,
        )
        async with self.database.begin() as conn:
            return await create_quote(conn, self.territory, self.settings, self.clock, request)

    async def check_out(
        self,
        quote_id: str,
        *,
        key: str | None = None,
        method: PaymentMethod = PaymentMethod.CARD,
        use_wallet: bool = False,
        substitution: Substitution = Substitution.REFUND,
        body_hash: bytes = b"body",
    ) -> CheckoutAnswer:
        request = CheckoutRequest(
            user_id=self.customer_id,
            key=key or new_id("key"),
            body_hash=body_hash,
            quote_id=quote_id,
            method=method,
            token=None if method is PaymentMethod.COD else "tok_ok",
            substitution=substitution,
            tip_minor=None,
            use_wallet=use_wallet,
        )
        return await place_order(self.database, self.gateways, self.settings, self.clock, request)

    async def place_order(
        self,
        lines: dict[str, int],
        *,
        tip_minor: int = 0,
        method: PaymentMethod = PaymentMethod.CARD,
        use_wallet: bool = False,
        substitution: Substitution = Substitution.REFUND,
        slot: datetime | None = None,
    ) -> str:
        """Quote and check out; the order's id, whatever became of its payment."""
        quote_id = await self.quote(lines, tip_minor, slot)
        await self.check_out(
            quote_id, method=method, use_wallet=use_wallet, substitution=substitution
        )
        found = await self.rows("SELECT order_id FROM quotes WHERE id = :id", id=quote_id)
        return str(found[0]["order_id"])

    async def order_at(
        self,
        stage: str,
        lines: dict[str, int] | None = None,
        *,
        missing: dict[str, int] | None = None,
        tip_minor: int = 0,
        method: PaymentMethod = PaymentMethod.CARD,
        use_wallet: bool = False,
        substitution: Substitution = Substitution.REFUND,
    ) -> str:
        """An order driven to a stage; one of ``STAGES``."""
        if lines is None:
            (product,) = await self.stock(20)
            lines = {product.sku_id: 2}
        order_id = await self.place_order(
            lines,
            tip_minor=tip_minor,
            method=method,
            use_wallet=use_wallet,
            substitution=substitution,
        )
        await self.drive(order_id, stage, missing=missing)
        return order_id

    async def drive(
        self, order_id: str, stage: str, *, missing: dict[str, int] | None = None
    ) -> None:
        """From confirmed to a stage."""
        steps = STAGES.index(stage)
        if steps >= 1:
            await self.relay()
            await self.claim(order_id)
        if steps >= 2:
            await self.pick(order_id, missing or {})
        if steps >= 3:
            await self.offer(order_id)
        if steps >= 4:
            await self.accept(order_id)
        if steps >= 5:
            await self.arrive(order_id, 1)
        if steps >= 6:
            await self.hand_over(order_id)
        if steps >= 7:
            await self.arrive(order_id, 2)
        if steps >= 8:
            await self.deliver(order_id)
        if steps >= 9:
            await self.settle_all()

    async def relay(self) -> None:
        while await relay_batch(self.database, CONSUMERS):
            pass

    async def task_id(self, order_id: str) -> str:
        rows = await self.rows("SELECT id FROM pick_tasks WHERE order_id = :id", id=order_id)
        return str(rows[0]["id"])

    async def claim(self, order_id: str) -> dict[str, Any]:
        task_id = await self.task_id(order_id)
        async with self.database.begin() as conn:
            return await picking.claim(conn, self.place.store.id, self.picker_id, task_id)

    async def pick(self, order_id: str, missing: dict[str, int]) -> None:
        """Scan (or report missing) everything that is open, and pack."""
        task_id = await self.task_id(order_id)
        async with self.database.begin() as conn:
            task = await pick_tasks.read(conn, task_id)
        for line in task["lines"]:
            gone = missing.get(line["sku_id"], 0)
            if gone:
                async with self.database.begin() as conn:
                    await picking.short(
                        conn, task_id, self.picker_id, line["line_id"], gone, "not_found"
                    )
            left = line["quantity"] - line["picked"] - line["missing"] - gone
            if left:
                async with self.database.begin() as conn:
                    await picking.scan(
                        conn, task_id, self.picker_id, line["line_id"], line["barcode"],
                        line["bin"], left,
                    )  # fmt: skip
        async with self.database.begin() as conn:
            await picking.pack(conn, task_id, self.picker_id, 1, "A1")

    async def credit(self, amount_minor: int) -> None:
        """Put money into the customer's wallet."""
        async with self.database.begin() as conn:
            await wallet.give_credit(
                conn, new_id("key"), self.customer_id, "INR", amount_minor, "test"
            )

    async def wallet(self) -> tuple[int, int]:
        """(balance, held)."""
        async with self.database.begin() as conn:
            found = await wallet.read(conn, self.customer_id)
        return (found[0].balance_minor, found[0].held_minor) if found else (0, 0)

    async def start_shift(self, rider_id: str | None = None) -> None:
        async with self.database.begin() as conn:
            now = self.clock.now()
            await shifts.start(conn, rider_id or self.rider_id, now, self.clock.after(36_000))

    async def planned(
        self, order_ids: Sequence[str], rider_id: str, *, extends: bool = False
    ) -> PlannedTrip:
        """What the engine would say: these orders by that rider, as they are now.

        With ``extends`` some of them are on the rider's trip already.
        """
        async with self.database.begin() as conn:
            versions = [await _version(conn, "orders", order_id) for order_id in order_ids]
            rider_version = await _version(conn, "riders", rider_id)
        now_s = self.clock.now_s()
        ids = tuple(order_ids)
        stops = [
            PlannedStop(
                kind=PlannedKind.PICKUP, place=0, order_ids=ids, planned_arrival_s=now_s + 60,
                planned_departure_s=now_s + 90,
            )
        ]  # fmt: skip
        stops += [
            PlannedStop(
                kind=PlannedKind.DROPOFF, place=n, order_ids=(order_id,),
                planned_arrival_s=now_s + 300 * n, planned_departure_s=now_s + 300 * n + 60,
            )
            for n, order_id in enumerate(ids, start=1)
        ]  # fmt: skip
        return PlannedTrip(
            rider_id=rider_id,
            store_id=self.place.store.id,
            stops=tuple(stops),
            order_ids=ids,
            leave_at_s=now_s,
            travel_s=300.0,
            explanation=Explanation(cost_terms={}),
            order_versions=tuple(versions),
            rider_version=rider_version,
            extends=extends,
        )

    async def offer(self, *order_ids: str, rider_id: str | None = None) -> str:
        """Offer orders to a rider on shift; the trip's id."""
        rider = rider_id or self.rider_id
        await self.start_shift(rider)
        return await self.commit(await self.planned(order_ids, rider))

    async def commit(self, planned: PlannedTrip, epoch: int | None = None) -> str:
        """Commit a planned trip under the city's lease (or under a given epoch)."""
        city_id = self.place.city.id
        async with self.database.begin() as conn:
            if epoch is None:
                pool = self.database.pool
                epoch = await leases.acquire(pool, city_id, city_id, "tests", 60.0)
                assert epoch is not None
            return await dispatching.commit_trip(
                conn, self.territory, self.rider_settings, self.clock, city_id, epoch, planned
            )

    async def trip(self, order_id: str) -> Trip:
        async with self.database.begin() as conn:
            found = await trips.active_of_order(conn, order_id)
        assert found is not None, f"{order_id} has no rider"
        return found

    async def accept(self, order_id: str) -> Trip:
        trip = await self.trip(order_id)
        assert trip.offer_id is not None
        async with self.database.begin() as conn:
            return await offers.accept(conn, trip.rider_id, trip.offer_id)

    async def arrive(self, order_id: str, n: int) -> Trip:
        trip = await self.trip(order_id)
        async with self.database.begin() as conn:
            return await deliveries.arrive(
                conn, trip.rider_id, self.rider_user_id, trip.id, n, None
            )

    async def hand_over(self, order_id: str) -> None:
        trip = await self.trip(order_id)
        task_id = await self.task_id(order_id)
        async with self.database.begin() as conn:
            await picking.hand_over(conn, task_id, self.picker_id, trip.rider_code)

    async def deliver(self, order_id: str, n: int = 2) -> Trip:
        trip = await self.trip(order_id)
        order = await self.order(order_id)
        owed = order["total_minor"] - order["refunded_minor"]
        owed = max(0, owed - order["wallet_minor"])
        proof = Proof(order["delivery_code"], owed if order["gateway"] == CASH else None)
        async with self.database.begin() as conn:
            return await deliveries.complete(
                conn, trip.rider_id, self.rider_user_id, trip.id, n, proof, None
            )

    async def settle_all(self) -> int:
        """Carry out every operation of this shop's orders until none is open; returns how many."""
        done = 0
        while True:
            rows = await self.rows(
                "SELECT p.id FROM payment_operations p JOIN orders o ON o.id = p.order_id"
                " WHERE o.store_id = :store AND p.status IN ('pending', 'unknown') ORDER BY p.id",
                store=self.place.store.id,
            )
            if not rows:
                return done
            for row in rows:
                await self.settle_one(row["id"])
                done += 1
            assert done < 100, "operations that never end"

    async def settle_one(self, operation_id: str) -> None:
        async with self.database.begin() as conn:
            await conn.execute(
                text("UPDATE payment_operations SET attempts = attempts + 1 WHERE id = :id"),
                {"id": operation_id},
            )
            operation = await operations.find(conn, operation_id)
        outcome = await ask(self.gateways, operation)
        async with self.database.begin() as conn:
            await settle(conn, self.gateways.settings, operation_id, outcome)

    async def order(self, order_id: str) -> dict[str, Any]:
        return (await self.rows("SELECT * FROM orders WHERE id = :id", id=order_id))[0]

    async def states(self, order_id: str) -> tuple[str, str, str]:
        order = await self.order(order_id)
        return order["status"], order["delivery_status"], order["payment_status"]

    async def stock_of(self, sku_id: str) -> tuple[int, int]:
        """(on hand, reserved)."""
        rows = await self.rows(
            "SELECT on_hand, reserved FROM stock WHERE store_id = :store AND sku_id = :sku",
            store=self.place.store.id, sku=sku_id,
        )  # fmt: skip
        return rows[0]["on_hand"], rows[0]["reserved"]

    async def balances(self, order_id: str) -> dict[str, int]:
        """What an order left on each account, over all of its transactions."""
        rows = await self.rows(
            "SELECT p.account, sum(p.amount_minor)::bigint AS amount FROM ledger_postings p"
            " JOIN ledger_transactions t ON t.id = p.transaction_id"
            " WHERE t.order_id = :id GROUP BY 1 HAVING sum(p.amount_minor) <> 0",
            id=order_id,
        )
        return {row["account"]: row["amount"] for row in rows}

    async def rows(self, statement: str, **parameters: object) -> list[dict[str, Any]]:
        async with self.database.begin() as conn:
            found = await conn.execute(text(statement), parameters)
            return [dict(row) for row in found.mappings()]


async def _version(conn: AsyncConnection, table: str, row_id: str) -> int:
    found = await conn.scalar(text(f"SELECT version FROM {table} WHERE id = :id"), {"id": row_id})
    assert isinstance(found, int)
    return found


async def open_shop(database: Database) -> Shop:
    """A shop of its own in a database that others may use too."""
    place = await make_place(database, 0)
    async with database.begin() as conn:
        customer_id = await add_user(conn, role=Role.GUEST, name="Guest")
        clock = await load_clock(conn)
    assert customer_id is not None
    store, lat, lon = place.store, place.store.lat, place.store.lon
    square = [[lon + dx, lat + dy] for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
    ring = [[lon + (x - lon) * 0.01, lat + (y - lat) * 0.01] for x, y in square]
    zone = zone_from_geojson("zon_test", {"type": "Polygon", "coordinates": [ring]})
    territory = Territory(
        stores={store.id: StorePlace(store.id, place.city.id, store.name, Point(lat, lon), "INR")},
        zones=ZoneIndex([zone]),
        store_of_zone={"zon_test": store.id},
        travel={},
    )
    gateway = ScriptedGateway()
    gateways = Gateways(
        {CASH: CashGateway(), WALLET: WalletGateway(), gateway.name: gateway}, PaymentSettings()
    )
    return Shop(database, place, territory, clock, customer_id, gateway, gateways)
