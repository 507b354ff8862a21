"""The stream of a whole delivery: drops lose nothing, and positions show only what they may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.flow import (
    claim,
    drop_off,
    on_shift,
    place_order,
    report_position,
    scan_line,
    take_offer,
    until_status,
)
from tests.system import Caller, System
from tests.waiting import PATIENCE_S, eventually

DROPS = 20


@dataclass
class Watcher:
    """An app that watches one channel: the events that it saw, and the state that it made."""

    caller: Caller
    base_url: str
    channel: str
    epoch: str | None = None
    seq: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    positions: list[dict[str, Any]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    connection: ClientConnection | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientConnection]:
        """A socket that is logged in and subscribed from where the app stands."""
        ticket = (await self.caller.post("/v1/realtime/tickets"))["ticket"]
        url = self.base_url.replace("http", "ws", 1) + "/v1/stream"
        async with connect(url, compression=None, proxy=None) as socket:
            self.connection = socket
            await socket.send(json.dumps({"op": "auth", "ticket": ticket}))
            assert json.loads(await socket.recv())["op"] == "ready"
            op: dict[str, object] = {"op": "subscribe", "id": 1, "channel": self.channel}
            if self.epoch is not None:
                op["since"] = {"epoch": self.epoch, "seq": self.seq}
            await socket.send(json.dumps(op))
            yield socket

    async def watch(self) -> None:
        """Take in frames until the connection ends."""
        async with self.connected() as socket:
            try:
                while True:
                    self.take(json.loads(await socket.recv()))
            except ConnectionClosed:
                return

    def take(self, frame: dict[str, Any]) -> None:
        match frame["op"]:
            case "subscribed":
                self.replies.append(frame)
                if self.epoch is not None:
                    assert frame["recovered"], "the events since then are all there"
                self.epoch = frame["epoch"]
            case "snapshot":
                self.seq, self.state = frame["seq"], frame["data"]
            case "event":
                assert frame["seq"] == self.seq + 1, f"a gap after {self.seq}: {frame}"
                self.seq = frame["seq"]
                self.events.append(frame)
                apply(self.state, frame["type"], frame["data"])
            case "position":
                self.positions.append(frame)
            case other:
                raise AssertionError(f"{other}: {frame}")

    async def drop(self) -> None:
        """Pull the plug, without a goodbye."""
        assert self.connection is not None
        self.connection.transport.abort()


def apply(state: dict[str, Any], event_type: str, data: Mapping[str, Any]) -> None:
    """What an app does with an event of an order's channel."""
    match event_type:
        case "order.status":
            for name in ("status", "delivery_status", "payment_status", "version"):
                state[name] = data[name]
        case "order.line":
            line = next(line for line in state["lines"] if line["line_id"] == data["line_id"])
            line["picked_quantity"] = data["picked_quantity"]
            line["refunded"] = {**line["refunded"], "amount_minor": data["refunded_minor"]}
        case "order.rider":
            state["rider"] = data["rider"]


def comparable(order: Mapping[str, Any]) -> dict[str, Any]:
    """What the events of an order's channel tell."""
    shown = ("status", "delivery_status", "payment_status", "version", "rider")
    lines = [
        {name: line[name] for name in ("line_id", "picked_quantity", "refunded")}
        for line in order["lines"]
    ]
    return {**{name: order[name] for name in shown}, "lines": lines}


async def test_twenty_drops_lose_and_double_nothing(system: System) -> None:
    """A socket that is cut twenty times sees the events of one that never was; both end where a
    fresh GET stands.
    """
    place = system.take_place()
    first, second = await system.stock(place, 20, 6_000, 4_000)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {first.sku_id: 3, second.sku_id: 2})
    rider = await on_shift(system, place, place.riders[0])
    channel = f"order:{order['id']}"
    steady = Watcher(customer, system.base_url, channel)
    shaky = Watcher(customer, system.base_url, channel)
    drops = 0
    over = asyncio.Event()

    async def connected_again() -> bool:
        # One answer to each connection, this one included.
        return len(shaky.replies) > drops

    async def keep_dropping() -> None:
        nonlocal drops
        while not over.is_set():
            watching = asyncio.create_task(shaky.watch())
            await eventually(connected_again, "an answer")
            # Sometimes at once, sometimes after some frames.
            await asyncio.sleep(0.02 * (drops % 4))
            await shaky.drop()
            await watching
            drops += 1

    async def step(least_drops: int) -> None:
        await eventually(lambda: has(drops >= least_drops), f"{least_drops} drops")

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(steady.watch())
        await eventually(lambda: has(bool(steady.state)), "a snapshot")
        dropping = tasks.create_task(keep_dropping())
        await step(2)
        task = await claim(picker, place, order["id"])
        missing, whole = task["lines"]
        body = {"line_id": missing["line_id"], "missing": 1, "reason": "damaged"}
        await picker.post(f"/v1/pick-tasks/{task['id']}/short", body)
        await step(5)
        await scan_line(picker, task, {**missing, "missing": 1})
        await scan_line(picker, task, whole)
        await step(8)
        await picker.post(f"/v1/pick-tasks/{task['id']}/pack", {"bags": 1, "shelf": "A1"})
        trip = await take_offer(rider)
        await step(11)
        await rider.post(f"/v1/trips/{trip['id']}/stops/1/arrive")
        await step(14)
        await picker.post(
            f"/v1/pick-tasks/{task['id']}/handover", {"rider_code": trip["rider_code"]}
        )
        await step(17)
        await drop_off(rider, trip, order["delivery_code"])
        await until_status(customer, order["id"], payment_status="partially_refunded")
        await step(DROPS)
        over.set()
        await dropping
        head = (await system.rows("SELECT seq FROM stream_heads WHERE stream = :s", s=channel))[0]
        await eventually(lambda: has(steady.seq >= head["seq"]), "the last event")
        last = asyncio.create_task(shaky.watch())
        await eventually(connected_again, "the last connection")
        await eventually(lambda: has(shaky.seq >= head["seq"]), "the last event after the drops")
        await shaky.drop()
        await steady.drop()
        await asyncio.wait_for(last, PATIENCE_S)
        await asyncio.wait_for(watching, PATIENCE_S)

    assert drops >= DROPS
    start = max(steady.events[0]["seq"], shaky.events[0]["seq"])
    assert start <= steady.seq - 12, "both saw nearly all of it"
    of_both = [[e for e in watcher.events if e["seq"] >= start] for watcher in (steady, shaky)]
    assert of_both[0] == of_both[1]
    fresh = await customer.get(f"/v1/orders/{order['id']}")
    assert comparable(steady.state) == comparable(fresh)
    assert comparable(shaky.state) == comparable(fresh)


async def test_positions_are_shown_only_while_the_order_is_carried(system: System) -> None:
    """Nothing before the handover, the rider's way to the door, and nothing after delivery."""
    place = system.take_place()
    (product,) = await system.stock(place, 20)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    rider = await on_shift(system, place, place.riders[0])
    watcher = Watcher(customer, system.base_url, f"order:{order['id']}")
    ops = Watcher(await system.log_in(place.ops), system.base_url, f"city:{place.city.id}")
    lat, lon = place.store.lat, place.store.lon

    async def seen_by_ops(lat: float) -> bool:
        return any(abs(p["lat"] - lat) < 1e-9 for p in ops.positions)

    async def ride(to_lat: float) -> None:
        """Report a position and wait until it is out: ops see all of them."""
        await report_position(system, rider, to_lat, lon)
        await eventually(lambda: seen_by_ops(to_lat), f"the rider to be seen at {to_lat}")

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(watcher.watch()), tasks.create_task(ops.watch())]
        await eventually(lambda: has(watcher.state), "a snapshot")
        await eventually(lambda: has(ops.replies), "a snapshot for ops")
        task = await claim(picker, place, order["id"])
        await ride(lat + 0.0001)
        await scan_line(picker, task, task["lines"][0])
        await picker.post(f"/v1/pick-tasks/{task['id']}/pack", {"bags": 1, "shelf": "A1"})
        trip = await take_offer(rider)
        await ride(lat + 0.0002)
        await rider.post(f"/v1/trips/{trip['id']}/stops/1/arrive")
        await ride(lat + 0.0003)
        assert watcher.positions == []
        body = {"rider_code": trip["rider_code"]}
        await picker.post(f"/v1/pick-tasks/{task['id']}/handover", body)
        carried = lat + 0.001
        await ride(carried)
        await eventually(lambda: has(watcher.positions), "a position for the customer")
        shown = watcher.positions[-1]
        assert abs(shown["lat"] - carried) < 1e-9
        assert shown["eta_s"] > 0
        await drop_off(rider, trip, order["delivery_code"])
        await ride(lat + 0.005)
        await until_status(customer, order["id"], payment_status="captured")
        await watcher.drop()
        await ops.drop()
        await asyncio.wait_for(asyncio.gather(*running), PATIENCE_S)
    assert {round(position["lat"], 6) for position in watcher.positions} == {round(carried, 6)}


async def has(value: object) -> bool:
    return bool(value)


async def test_who_may_watch_what(system: System) -> None:
    """A stranger's order, another rider and another city do not exist; ops see their city."""
    place, elsewhere = system.take_place(), system.elsewhere
    (product,) = await system.stock(place, 20)
    customer = await system.customer()
    order = await place_order(customer, place, {product.sku_id: 1})
    refused = [
        (await system.customer(), f"order:{order['id']}"),
        (await system.log_in(elsewhere.riders[0]), f"rider:{place.riders[0].rider_id}"),
        (await system.log_in(elsewhere.ops), f"city:{place.city.id}"),
        (await system.log_in(elsewhere.pickers[0]), f"store:{place.store.id}"),
        (customer, f"city:{place.city.id}"),
    ]
    for caller, channel in refused:
        async with Watcher(caller, system.base_url, channel).connected() as socket:
            frame = json.loads(await socket.recv())
            assert (frame["op"], frame["code"]) == ("error", "not_found"), channel
    allowed = [
        (await system.log_in(place.ops), f"order:{order['id']}"),
        (await system.log_in(place.riders[0]), f"rider:{place.riders[0].rider_id}"),
        (await system.log_in(place.pickers[0]), f"store:{place.store.id}"),
    ]
    for caller, channel in allowed:
        async with Watcher(caller, system.base_url, channel).connected() as socket:
            assert json.loads(await socket.recv())["op"] == "subscribed", channel
