"""Customers: they browse, fill a basket, order, pay, watch, sometimes change their minds, rate."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from simulator import substitutes
from simulator.api import Json, LoggedOut, Refused, Reply, Session, Unreachable
from simulator.demand import DemandedOrder, Line
from simulator.order_state import OrderState
from simulator.queued import until_placed
from simulator.second_thoughts import second_thoughts
from simulator.stream import Stream, Watch
from simulator.substitutes import Answers
from simulator.tally import FINAL
from simulator.world import Door, World

# Virtual seconds.
_READS_PAGE_S: Final = (4.0, 15.0)
_THINKS_S: Final = (3.0, 10.0)
_LOOKS_AGAIN_S: Final = 240.0
_RATES_AFTER_S: Final = (20.0, 120.0)
# An order that is not over by then is given up on; its place in the report is its last state.
_PATIENCE_S: Final = 3 * 3600.0
# Real seconds in which a socket has to catch up with a fresh GET: relay, Redis and wire, and a
# relay that was killed this moment.
_CATCH_UP_S: Final = 20.0
_LOOKS: Final = 20
# How often a basket is made smaller before the customer goes elsewhere.
_BASKETS: Final = 3
# Shares of delivered orders on which something is claimed, and of those on which it is broken.
_CLAIMS: Final = 0.03
_DAMAGED: Final = 0.3

_SETTLED: Final = frozenset({"captured", "voided", "declined", "refunded", "partially_refunded"})


class Regulars:
    """Registered customers between two orders; guests are made anew each time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._free: list[Session] = []
        self._count = 0

    async def take(self) -> Session:
        """One who is free, or a new one."""
        if self._free:
            return self._free.pop()
        self._count += 1
        session = Session(self._world.api)
        email = f"customer{self._count}.{self._world.run_id}@darkstore.example"
        password = secrets.token_urlsafe(18)
        await session.open_registered(email, password, f"Customer {self._count}")
        return session

    def give_back(self, session: Session) -> None:
        self._free.append(session)


class Customer:
    """One wish of one customer, from the first look to the rating."""

    def __init__(
        self, world: World, regulars: Regulars, skus: Sequence[str], wish: DemandedOrder
    ) -> None:
        self._world = world
        self._regulars = regulars
        self._skus = skus
        self._wish = wish
        self._rng = world.rng("customer", wish.n)
        self._state = OrderState()
        self._answers = Answers(world, wish.n)
        self._changed = asyncio.Event()
        self._store_id = ""
        self._order_id = ""

    async def run(self) -> None:
        """The whole visit; what makes the customer give up is counted, not raised."""
        tally = self._world.tally
        session: Session | None = None
        try:
            session = await self._arrive()
            order = await self._shop(session)
            if order is not None:
                await self._live_through(session, order)
        except* Refused as refusals:
            tally.gave_up[_first_code(refusals)] += 1
        except* LoggedOut:
            tally.gave_up["logged_out"] += 1
        except* Unreachable:
            tally.gave_up["unreachable"] += 1
        finally:
            if session is not None and self._wish.registered:
                self._regulars.give_back(session)

    async def _arrive(self) -> Session:
        if self._wish.registered:
            return await self._regulars.take()
        session = Session(self._world.api)
        await session.open_guest()
        return session

    async def _shop(self, session: Session) -> Json | None:
        """Browse, quote, order; the placed order, or None when nothing came of it."""
        wish = self._wish
        where = urlencode({"lat": wish.lat, "lon": wish.lon})
        serves = (await self._world.api.call("GET", f"/v1/serviceability?{where}")).must()
        if not serves["serviceable"]:
            self._world.tally.refused[str(serves["reason"] or "not_serviceable")] += 1
            return None
        self._store_id = serves["store_id"]
        await self._browse()
        lines = [Line(line.product, line.quantity) for line in wish.lines]
        for _ in range(_BASKETS):
            if wish.uses_cart:
                await self._fill_cart(session, lines)
            reply = await self._try(session, lines)
            if reply.ok:
                return self._placed(reply.data)
            if reply.code == "stock_short":
                self._world.tally.refused["stock_short"] += 1
                lines = self._smaller(lines, reply)
            elif reply.code not in ("quote_expired", "quote_used", "price_changed"):
                break
            if not lines:
                return None
            await self._pause(_THINKS_S)
        if reply.code != "stock_short":
            self._world.tally.refused[str(reply.code)] += 1
        return None

    async def _browse(self) -> None:
        """Look at pages of the store's listing; they end where the listing ends."""
        cursor: str | None = None
        for _ in range(self._wish.pages):
            query = urlencode({"limit": 24} | ({"cursor": cursor} if cursor else {}))
            path = f"/v1/stores/{self._store_id}/products?{query}"
            page = (await self._world.api.call("GET", path)).must()
            await self._pause(_READS_PAGE_S)
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def _fill_cart(self, session: Session, lines: Sequence[Line]) -> None:
        body = {"store_id": self._store_id, "lines": self._lines(lines)}
        (await session.call("PUT", "/v1/cart", body)).must()
        await self._pause(_THINKS_S)

    async def _try(self, session: Session, lines: Sequence[Line]) -> Reply:
        """Quote and order once.  Each has a key, with which the retries of a call go on."""
        wish = self._wish
        quote = await session.call(
            "POST", "/v1/quotes",
            {
                "store_id": self._store_id,
                "lines": self._lines(lines),
                "dropoff": {"lat": wish.lat, "lon": wish.lon, "address": f"Door {wish.n}"},
                "tip": wish.tip_minor,
            },
            key=self._key(),
        )  # fmt: skip
        if not quote.ok:
            return quote
        await self._pause(_THINKS_S)
        payment: Json = {"method": wish.method}
        if wish.token is not None:
            payment["token"] = wish.token
        reply = await session.call(
            "POST", "/v1/orders",
            {
                "quote_id": quote.data["id"], "payment": payment,
                "substitution": substitutes.wish(self._world, wish.n),
            },
            key=self._key(),
        )  # fmt: skip
        return await until_placed(session, reply)

    def _placed(self, order: Json) -> Json:
        self._order_id = order["id"]
        self._world.tally.order_placed(order)
        self._world.doors[self._order_id] = Door(
            order["delivery_code"], self._wish.at_home, self._wish.door_s
        )
        return order

    async def _live_through(self, session: Session, order: Json) -> None:
        """Wait for the order, in one of the ways in which people wait."""
        self._state.replace(order)
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(self._change_mind(session))]
                if self._wish.tracks:
                    watching.append(tasks.create_task(self._track(session)))
                    watching.append(tasks.create_task(self._answers.run(session, self._order_id)))
                else:
                    watching.append(tasks.create_task(self._look_now_and_then(session)))
                await self._over()
                if self._wish.tracks:
                    await self._compare(session)
                for task in watching:
                    task.cancel()
        finally:
            self._world.doors.pop(self._order_id, None)
            self._world.tally.close_if_over(self._order_id)
        await self._afterwards(session)

    async def _over(self) -> None:
        if not await self._world.until(
            self._changed, lambda: self._state.status in FINAL, _PATIENCE_S
        ):
            raise Unreachable("the order never ended")

    async def _track(self, session: Session) -> None:
        watch = Watch(f"order:{self._order_id}", self._on_snapshot, self._on_event)
        stream = Stream(session, self._world.stream_url, self._world.tally, watch)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.run())
            for _ in range(self._wish.drops_socket):
                await self._pause((20.0, 240.0))
                stream.drop()

    def _on_snapshot(self, data: dict[str, Any]) -> None:
        self._state.replace(data)
        for substitution in data["substitutions"]:
            self._answers.note(substitution)
        self._note()

    def _on_event(self, event_type: str, data: dict[str, Any]) -> None:
        self._state.apply(event_type, data)
        if event_type == "order.substitution":
            self._answers.note(data)
        self._note()

    def _note(self) -> None:
        self._world.tally.status[self._order_id] = self._state.status
        self._changed.set()

    async def _look_now_and_then(self, session: Session) -> None:
        while True:
            await self._world.clock.sleep(_LOOKS_AGAIN_S * self._rng.uniform(0.7, 1.3))
            self._state.replace(await session.get(f"/v1/orders/{self._order_id}"))
            self._note()

    async def _change_mind(self, session: Session) -> None:
        await second_thoughts(self._world, session, self._wish, self._store_id, self._order_id)
        after_s = self._wish.cancel_after_s
        if after_s is None:
            return
        await self._world.clock.sleep(after_s)
        path = f"/v1/orders/{self._order_id}/cancel"
        reply = await session.call("POST", path, {"reason": "changed_my_mind"}, key=self._key())
        self._world.tally.cancel_asked["ok" if reply.ok else str(reply.code)] += 1
        if reply.ok and not self._wish.tracks:
            self._state.replace(reply.data)
            self._note()

    async def _compare(self, session: Session) -> None:
        """What the app shows has to become what a fresh GET shows."""
        tally = self._world.tally
        settled, differences = await self._differences(session)
        for _ in range(_LOOKS):
            # A capture that follows soon is worth waiting for: more events to compare.
            if settled and not differences:
                break
            await self._next_change()
            settled, differences = await self._differences(session)
        for _ in range(_LOOKS):
            # What was seen last may just have happened: its event has as long as any other.
            if not differences:
                break
            await self._next_change()
            _, differences = await self._differences(session)
        tally.states_compared += 1
        if differences:
            tally.mismatch(f"{self._order_id}: {'; '.join(differences)}")

    async def _differences(self, session: Session) -> tuple[bool, list[str]]:
        """Whether the payment has come to its end, and where the app differs from a fresh GET."""
        # Cleared before the look: a change during it is one to look at again.
        self._changed.clear()
        fresh = await session.get(f"/v1/orders/{self._order_id}")
        return fresh["payment_status"] in _SETTLED, self._state.differences(fresh)

    async def _next_change(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_S / _LOOKS):
                await self._changed.wait()

    async def _afterwards(self, session: Session) -> None:
        """Read how it went, and rate it."""
        if self._state.status != "delivered":
            return
        path = f"/v1/orders/{self._order_id}"
        order = await session.get(path)
        history = await session.get(f"{path}/history")
        self._world.tally.door(order, history["items"])
        await self._claim(session, order)
        if self._wish.stars is not None:
            await self._pause(_RATES_AFTER_S)
            body = {"stars": self._wish.stars}
            (await session.call("POST", f"{path}/rating", body, key=self._key())).must()
            self._world.tally.rated += 1

    async def _claim(self, session: Session, order: Json) -> None:
        """Some miss something when they unpack the bag, and a few show what is broken."""
        rng = self._world.rng("claim", self._wish.n)
        delivered = [line for line in order["lines"] if line["picked_quantity"] > 0]
        if not delivered or rng.random() >= _CLAIMS:
            return
        line = rng.choice(delivered)
        units = rng.randint(1, line["picked_quantity"])
        body: Json = {"kind": "missing", "items": [{"line_id": line["line_id"], "quantity": units}]}
        if rng.random() < _DAMAGED:
            body |= {"kind": "damaged", "photo": f"upl_{rng.getrandbits(80):020x}"}
        path = f"/v1/orders/{self._order_id}/issues"
        reply = await session.call("POST", path, body, key=self._key())
        self._world.tally.claims[reply.data["status"] if reply.ok else str(reply.code)] += 1

    def _smaller(self, lines: Sequence[Line], reply: Reply) -> list[Line]:
        """The basket with what is left of what ran short."""
        left = {short["sku_id"]: short["available"] for short in reply.data.get("lines", [])}
        kept = [
            replace(line, quantity=min(line.quantity, left.get(self._skus[line.product], 99)))
            for line in lines
        ]
        return [line for line in kept if line.quantity > 0]

    def _lines(self, lines: Sequence[Line]) -> list[Json]:
        return [{"sku_id": self._skus[x.product], "quantity": x.quantity} for x in lines]

    def _key(self) -> str:
        return f"sim-{self._world.run_id}-{self._wish.n}-{secrets.token_hex(6)}"

    async def _pause(self, between_s: tuple[float, float]) -> None:
        await self._world.clock.sleep(self._rng.uniform(*between_s))


def _first_code(refusals: BaseExceptionGroup[Refused]) -> str:
    """The code of the first refusal; task groups may have wrapped it more than once."""
    first: BaseException = refusals
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, Refused)
    return str(first.reply.code)
