"""Ruder clients than the simulator's: they click twice, flood one product, and write down answers.

Each keeps its promise book (`Journal`): a line is written when an answer has arrived.  They go on
through everything, with the same key, until they are told to stop.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from loadtests.chaos.journal import Journal
from simulator.api import Json, LoggedOut, Refused, Reply, Session, Unreachable
from simulator.queued import QUEUED, until_placed
from simulator.stream import Stream, Watch
from simulator.world import Door, StorePlace, World

BUYERS: Final = 4
DOUBLE_CLICK_EVERY_S: Final = (3.0, 7.0)
RACE_EVERY_S: Final = (3.0, 10.0)
COUNT_EVERY_S: Final = (0.3, 1.2)
FLOOD_EVERY_S: Final = (20.0, 40.0)
FLOOD_UNITS: Final = 10
FLOOD_CLIENTS: Final = 40
STAPLE_UNITS: Final = 50_000
REPLAYS_KEPT: Final = 80
TOKENS: Final = (
    ("card", "tok_ok", 50), ("upi", "tok_ok", 15), ("cod", None, 15), ("card", "tok_declined", 4),
    ("card", "tok_timeout_charged", 4), ("card", "tok_timeout_failed", 4),
    ("upi", "tok_slow", 4), ("upi", "tok_duplicate_webhook", 4),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reserved:
    """Products that the simulated city does not want: what happens to them is our doing alone."""

    staple: str
    hot: str
    counted: str


@dataclass
class Crowd:
    """What all clients share."""

    world: World
    journal: Journal
    store: StorePlace
    reserved: Reserved
    rng: random.Random
    ops: Session
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    replays: list[tuple[Session, str, Json, Json]] = field(default_factory=list)

    @property
    def manager(self) -> Session:
        assert self.store.manager is not None, "the seed made a manager"
        return self.store.manager

    def blame(self, what: str) -> None:
        """A promise broken in front of a client."""
        self.counts["broken promises"] += 1
        if len(self.wrong) < 20:
            self.wrong.append(what)

    async def rest(self, between_s: tuple[float, float]) -> None:
        """Real seconds, cut short by the end."""
        try:
            async with asyncio.timeout(self.rng.uniform(*between_s)):
                await self.stopping.wait()
        except TimeoutError:
            return

    async def guest(self) -> Session:
        session = Session(self.world.api)
        await session.open_guest()
        return session

    async def quote(self, session: Session, sku_id: str, quantity: int) -> Json:
        """Raises Refused."""
        point = self.store.point
        body: Json = {
            "store_id": self.store.store_id,
            "lines": [{"sku_id": sku_id, "quantity": quantity}],
            "dropoff": {"lat": point.lat + 0.002, "lon": point.lon, "address": "Chaos Street 1"},
        }
        return (await session.call("POST", "/v1/quotes", body, key=key("quote"))).must()

    def payment(self) -> Json:
        method, token, _ = self.rng.choices(TOKENS, [weight for *_, weight in TOKENS])[0]
        return {"method": method} | ({"token": token} if token else {})

    async def order(self, session: Session, quote: Json, order_key: str, payment: Json) -> Reply:
        """Post an order; an acknowledged one goes into the journal."""
        body: Json = {"quote_id": quote["id"], "payment": payment}
        reply = await session.call("POST", "/v1/orders", body, key=order_key)
        queued = reply.status == QUEUED
        reply = await self.placed(session, reply)
        if reply.ok:
            self.acknowledged(session, reply.data)
            if not queued:
                self.replays.append((session, order_key, body, reply.data))
                del self.replays[:-REPLAYS_KEPT]
            if reply.data["total"] != quote["total"]:
                self.blame(f"{reply.data['id']} costs something else than its quote")
        else:
            self.counts[f"order refused: {reply.code}"] += 1
        return reply

    async def placed(self, session: Session, reply: Reply) -> Reply:
        """The order, if the answer was only that it has been queued."""
        if reply.status == QUEUED:
            self.counts["checkouts queued"] += 1
            self.journal.note("queued", id=reply.data["id"])
        return await until_placed(session, reply)

    def acknowledged(self, session: Session, order: Json) -> None:
        self.counts["orders acknowledged"] += 1
        self.world.doors[order["id"]] = Door(order["delivery_code"], True, 20.0)
        self.journal.note(
            "order", id=order["id"], user_id=session.user["id"],
            total_minor=order["total"]["amount_minor"], status=order["status"],
            lines={line["sku_id"]: line["quantity"] for line in order["lines"]},
        )  # fmt: skip

    async def cancel(self, session: Session, order_id: str) -> bool:
        path = f"/v1/orders/{order_id}/cancel"
        reply = await session.call("POST", path, {"reason": "chaos"}, key=key("cancel"))
        if reply.ok:
            self.counts["cancellations acknowledged"] += 1
            self.journal.note("cancelled", id=order_id)
        return reply.ok


def key(what: str) -> str:
    return f"chaos-{what}-{secrets.token_hex(12)}"


async def forever(crowd: Crowd, turn: Callable[[Crowd], Awaitable[None]]) -> None:
    """One client's turns until the end; what stops a turn is counted."""
    while not crowd.stopping.is_set():
        try:
            await turn(crowd)
        except Refused as refused:
            crowd.counts[f"turn refused: {refused.reply.code}"] += 1
        except LoggedOut:
            crowd.counts["turn ended: logged out"] += 1
        except Unreachable:
            crowd.counts["turn ended: unreachable"] += 1
        await crowd.rest((0.05, 0.2))


async def buy(crowd: Crowd) -> None:
    """An order with any payment; some are cancelled at once or later, some rated at the end."""
    session = await crowd.guest()
    quantity = crowd.rng.randint(1, 3)
    quote = await crowd.quote(session, crowd.reserved.staple, quantity)
    reply = await crowd.order(session, quote, key("order"), crowd.payment())
    if not reply.ok:
        return
    order_id = reply.data["id"]
    dice = crowd.rng.random()
    if dice < 0.5:
        await crowd.rest((0.0, 3.0))
        await crowd.cancel(session, order_id)
        return
    await crowd.rest((1.0, 4.0))
    if dice < 0.85:
        await _rate(crowd, session, order_id)


async def _rate(crowd: Crowd, session: Session, order_id: str) -> None:
    """Wait for the door bell, then rate."""
    path = f"/v1/orders/{order_id}"
    for _ in range(60):
        status = (await session.get(path))["status"]
        if status == "delivered":
            body: Json = {"stars": crowd.rng.randint(1, 5)}
            reply = await session.call("POST", f"{path}/rating", body, key=key("rating"))
            if reply.ok:
                crowd.counts["ratings acknowledged"] += 1
                crowd.journal.note("rating", id=order_id, stars=body["stars"])
            return
        if status in ("cancelled", "payment_failed", "undeliverable", "returned"):
            return
        await crowd.rest((1.5, 2.5))
        if crowd.stopping.is_set():
            return


async def click_twice(crowd: Crowd) -> None:
    """The same order twice at once: under one key, or in two tabs under two keys."""
    session = await crowd.guest()
    quote = await crowd.quote(session, crowd.reserved.staple, 1)
    two_tabs = crowd.rng.random() < 0.5
    first = key("click")
    keys = (first, key("tab")) if two_tabs else (first, first)
    payment: Json = {"method": "card", "token": "tok_ok"}
    body: Json = {"quote_id": quote["id"], "payment": payment}
    replies = await asyncio.gather(
        *(session.call("POST", "/v1/orders", body, key=used) for used in keys)
    )
    replies = await asyncio.gather(*(crowd.placed(session, reply) for reply in replies))
    made = {reply.data["id"] for reply in replies if reply.ok}
    if len(made) > 1:
        crowd.blame(f"one quote became {sorted(made)}")
    if not two_tabs and len({reply.ok for reply in replies}) > 1:
        crowd.blame(f"one key, two answers: {[reply.code for reply in replies]}")
    crowd.counts["two tabs with one quote" if two_tabs else "double clicks"] += 1
    for reply in replies:
        if reply.ok:
            crowd.acknowledged(session, reply.data)
            await crowd.cancel(session, reply.data["id"])
            break
    await crowd.rest(DOUBLE_CLICK_EVERY_S)


async def race_the_wallet(crowd: Crowd) -> None:
    """Credit for one order, and two phones that spend it in the same second."""
    await crowd.rest(RACE_EVERY_S)
    session = await crowd.guest()
    quotes = [await crowd.quote(session, crowd.reserved.staple, 1) for _ in range(2)]
    total = quotes[0]["total"]
    body: Json = {
        "amount_minor": total["amount_minor"], "currency": total["currency"],
        "reason": "goodwill",
    }  # fmt: skip
    path = f"/v1/ops/users/{session.user['id']}/wallet/credit"
    (await crowd.ops.call("POST", path, body, key=key("credit"))).must()
    crowd.journal.note("credit", user_id=session.user["id"], amount_minor=body["amount_minor"])
    replies = await asyncio.gather(
        *(crowd.order(session, quote, key("wallet"), {"method": "wallet"}) for quote in quotes)
    )
    paid = [
        reply.data["id"]
        for reply in replies
        if reply.ok and reply.data["status"] != "payment_failed"
    ]
    if len(paid) > 1:
        crowd.blame(f"one credit paid for {paid}")
    crowd.counts["wallet races"] += 1
    for order_id in paid:
        await crowd.cancel(session, order_id)


async def count_stock(crowd: Crowd) -> None:
    """The manager books units in and out, now and then with a double click."""
    change = crowd.rng.choice((5, 3, 2, -1, -2, 7))
    path = f"/v1/ops/stores/{crowd.store.store_id}/stock"
    body: Json
    if change > 0:
        path, body = f"{path}/receive", {"sku_id": crowd.reserved.counted, "quantity": change}
    else:
        path = f"{path}/adjust"
        body = {"sku_id": crowd.reserved.counted, "delta": change, "reason": "chaos"}
    used = key("stock")
    reply = await _until_answered(crowd, path, body, used)
    again = crowd.rng.random() < 0.3
    if again and reply.ok:
        repeated = await _until_answered(crowd, path, body, used)
        crowd.counts["writes sent again"] += 1
        if repeated.data != reply.data:
            crowd.blame(f"{path} sent again: {repeated.data} instead of {reply.data}")
    if reply.ok:
        crowd.counts["stock writes acknowledged"] += 1
        crowd.journal.note("stock", sku_id=crowd.reserved.counted, change=change)
    else:
        crowd.counts[f"stock write refused: {reply.code}"] += 1
    await crowd.rest(COUNT_EVERY_S)


async def _until_answered(crowd: Crowd, path: str, body: Json, used: str) -> Reply:
    """Whether it took effect must be known in the end, so nobody gives up."""
    while True:
        try:
            reply = await crowd.manager.call("POST", path, body, key=used)
        except Unreachable:
            crowd.counts["kept trying"] += 1
            continue
        # A first try may have taken effect before the log-in ran out.
        if reply.status != 401:
            return reply


async def flood(crowd: Crowd) -> None:
    """Ten units arrive and forty customers press the button in the same second."""
    await crowd.rest(FLOOD_EVERY_S)
    if crowd.stopping.is_set():
        return
    await _stock_exactly(crowd, FLOOD_UNITS)
    sessions = await asyncio.gather(*(crowd.guest() for _ in range(FLOOD_CLIENTS)))
    quotes = await asyncio.gather(
        *(crowd.quote(session, crowd.reserved.hot, 1) for session in sessions)
    )
    payment: Json = {"method": "card", "token": "tok_ok"}
    replies = await asyncio.gather(
        *(
            crowd.order(session, quote, key("flood"), payment)
            for session, quote in zip(sessions, quotes, strict=True)
        )
    )
    bought = [
        (session, reply.data["id"])
        for session, reply in zip(sessions, replies, strict=True)
        if reply.ok and reply.data["status"] != "payment_failed"
    ]
    if len(bought) > FLOOD_UNITS:
        crowd.blame(f"{len(bought)} customers bought {FLOOD_UNITS} units")
    crowd.counts["hot-product floods"] += 1
    crowd.counts["units sold in floods"] += len(bought)
    for session, order_id in bought:
        await crowd.cancel(session, order_id)


async def _stock_exactly(crowd: Crowd, units: int) -> None:
    """Adjust the hot product so that so many are to be had."""
    available = (await read_stock(crowd.manager, crowd.store.store_id, crowd.reserved.hot))[
        "available"
    ]
    if available != units:
        body: Json = {
            "sku_id": crowd.reserved.hot, "delta": units - available, "reason": "chaos",
        }  # fmt: skip
        path = f"/v1/ops/stores/{crowd.store.store_id}/stock/adjust"
        (await crowd.manager.call("POST", path, body, key=key("hot"))).must()


async def read_stock(manager: Session, store_id: str, sku_id: str) -> Json:
    """The manager's line of one product.  Raises Refused, LookupError."""
    cursor = ""
    while True:
        page = await manager.get(f"/v1/ops/stores/{store_id}/stock?limit=100{cursor}")
        for line in page["items"]:
            if line["sku_id"] == sku_id:
                return dict(line)
        if page["next_cursor"] is None:
            raise LookupError(sku_id)
        cursor = f"&cursor={page['next_cursor']}"


async def watch(crowd: Crowd, session: Session, url: str, channel: str) -> None:
    """Somebody in the office who looks at a channel all day, through the gateway."""

    def snapshot(_data: dict[str, Any]) -> None:
        crowd.counts["office snapshots"] += 1

    def event(_type: str, _data: dict[str, Any]) -> None:
        crowd.counts["office events"] += 1

    await Stream(session, url, crowd.world.tally, Watch(channel, snapshot, event)).run()


async def replay(crowd: Crowd) -> None:
    """At the end: an order sent once more gets the very answer that it got, word for word."""
    for session, used, body, told in crowd.replays:
        try:
            reply = await session.call("POST", "/v1/orders", body, key=used)
        except (Unreachable, LoggedOut) as error:
            crowd.blame(f"{told['id']} could not be sent again: {error}")
            continue
        crowd.counts["orders sent again"] += 1
        if reply.data != told:
            crowd.blame(f"{told['id']} sent again was answered {reply.status} {reply.code}")
