"""Riders: shift, offers, the way to the store and to the door, and phones that lose the network."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from geo.distances import Point
from simulator import motion
from simulator.api import Json, Refused, Reply, Session, Unreachable
from simulator.phone import RIDING_INTERVAL_S, STANDING_INTERVAL_S, Phone
from simulator.stream import Stream, Watch
from simulator.trip_state import KnownStop, KnownTrip, KnownTrips
from simulator.world import StorePlace, World

# Virtual seconds.
_READS_OFFER_S: Final = (2.0, 9.0)
_PARKS_S: Final = (10.0, 25.0)
_NOBODY_OPENS_S: Final = 150.0
_ASKS_AGAIN_S: Final = 120.0
_IDLE_LOOK_S: Final = 240.0
_HURRIES_S: Final = 10.0
_OFFLINE_S: Final = (60.0, 300.0)
_SHIFT_HOURS: Final = 8.0
_SHIFT_MARGIN_S: Final = 300.0

_DECLINE_SHARE: Final = 0.05
_IGNORE_SHARE: Final = 0.03
_OFFLINE_SHARE: Final = 0.06

# A bicycle keeps to the street as a scooter does, at 15 km/h where that rides 25.
_PACE: Final = {"bicycle": 0.6, "scooter": 0.95}


class Rider:
    """One rider.  ``home`` is the store near which the rider waits."""

    def __init__(self, world: World, log_in: Json, home: StorePlace) -> None:
        self._world = world
        self._log_in = log_in
        self._home = home
        self._rng = world.rng("rider", log_in["email"])
        self._pace = _PACE.get(str(log_in["vehicle"]), 0.8) * self._rng.uniform(0.9, 1.0)
        self._session = Session(world.api)
        watch = Watch(f"rider:{log_in['rider_id']}", self._on_snapshot, self._on_event)
        self._stream = Stream(self._session, world.stream_url, world.tally, watch)
        self._phone = Phone(world, self._session, self._stream, log_in["email"])
        self._trips = KnownTrips()
        self._offers: dict[str, Json] = {}
        self._changed = asyncio.Event()
        self._ride = motion.standing(world.roads, home.node, world.clock.now_s())
        self._shift_ends_s = 0.0
        self._heard_s = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        await self._session.log_in(self._log_in["email"], self._log_in["password"])
        await self._start_shift()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stream.run())
            tasks.create_task(self._report_positions())
            tasks.create_task(self._work())

    # What the phone hears.

    def _on_snapshot(self, data: dict[str, Any]) -> None:
        self._offers = {offer["id"]: offer for offer in data["offers"]}
        self._trips.replace(data["trips"])
        self._changed.set()

    def _on_event(self, event_type: str, data: dict[str, Any]) -> None:
        match event_type:
            case "offer.made":
                self._world.tally.offers["made"] += 1
                self._offers[data["id"]] = data
            case "offer.closed":
                self._offers.pop(data["offer_id"], None)
                if data["reason"] in ("accepted", "declined", "expired"):
                    self._world.tally.offers[data["reason"]] += 1
            case "trip.changed":
                self._trips.note(data)
        self._changed.set()

    async def _ask(self) -> None:
        """Read the open trips anew: a phone that has heard nothing for long does not trust it."""
        reply = await self._session.get("/v1/riders/me/trips?status=active")
        self._trips.replace(reply["items"])
        self._heard_s = self._world.clock.now_s()

    async def _report_positions(self) -> None:
        """Fixes along the way; a phone that is back first sends what it kept."""
        while True:
            await asyncio.sleep(self._phone.frame_interval_s * self._rng.uniform(0.95, 1.05))
            now_s = self._world.clock.now_s()
            moving = now_s < self._ride.arrives_s
            interval_s = RIDING_INTERVAL_S if moving else STANDING_INTERVAL_S
            t_s = max(self._phone.last_fix_s + interval_s, now_s - STANDING_INTERVAL_S)
            while t_s <= now_s:
                self._phone.take_fix(t_s, self._ride.at(t_s))
                t_s += interval_s
            try:
                if await self._phone.come_back_when_due():
                    self._changed.set()
                await self._phone.send_waiting()
            except (Refused, Unreachable):
                # The fixes wait in the phone; the next round tries again.
                continue

    # What the rider does.

    async def _work(self) -> None:
        while True:
            try:
                await self._next_thing()
            except (Refused, Unreachable):
                await self._world.clock.sleep(self._rng.uniform(5.0, 15.0))
                await self._recover()

    async def _recover(self) -> None:
        try:
            await self._ask()
        except (Refused, Unreachable):
            # Still away; the work goes on with what the phone knows.
            return

    async def _next_thing(self) -> None:
        trip = self._trips.next()
        if trip is not None:
            self._world.tally.riders_busy_now += 1
            started_s = self._world.clock.now_s()
            try:
                await self._ride_trip(trip)
            finally:
                self._world.tally.riders_busy_now -= 1
                self._world.tally.busy_s += self._world.clock.now_s() - started_s
            return
        if self._offers:
            _, offer = self._offers.popitem()
            await self._answer(offer)
            return
        if self._world.clock.now_s() > self._shift_ends_s - _SHIFT_MARGIN_S:
            await self._renew_shift()
        self._head_for(self._home.node)
        heard = await self._world.until(
            self._changed,
            lambda: bool(self._offers) or self._trips.next() is not None,
            _IDLE_LOOK_S * self._rng.uniform(0.8, 1.2),
        )
        if not heard and not self._phone.offline:
            await self._ask()

    async def _start_shift(self) -> None:
        path = "/v1/riders/me/shift/start"
        reply = await self._phone.act(path, {"hours": _SHIFT_HOURS})
        assert reply is not None
        ends_at = reply.must()["ends_at"]
        self._shift_ends_s = datetime.fromisoformat(ends_at).timestamp()

    async def _renew_shift(self) -> None:
        """The next shift follows at once: a city that runs for days needs its riders."""
        if self._phone.offline:
            return
        await self._phone.act("/v1/riders/me/shift/stop")
        await self._start_shift()

    async def _answer(self, offer: Json) -> None:
        await self._pause(_READS_OFFER_S)
        dice = self._rng.random()
        if dice < _IGNORE_SHARE:
            return
        if dice < _IGNORE_SHARE + _DECLINE_SHARE:
            await self._phone.act(f"/v1/offers/{offer['id']}/decline", {"reason": "too_far"})
            return
        reply = await self._phone.act(f"/v1/offers/{offer['id']}/accept")
        if reply is not None and reply.ok:
            self._trips.note(reply.data)

    async def _ride_trip(self, trip: KnownTrip) -> None:
        """Stop after stop, until the trip is over or taken away."""
        for stop in trip.stops:
            if stop.over:
                continue
            if stop.kind == "pickup":
                await self._collect(trip, stop)
            else:
                await self._deliver(trip, stop)
            if trip.over:
                return
            if not stop.over:
                # Neither done nor taken away: ask how things stand, and begin again from there.
                await self._pause((_HURRIES_S, 2 * _HURRIES_S))
                await self._ask()
                return
        if not trip.over:
            await self._ask()

    async def _collect(self, trip: KnownTrip, stop: KnownStop) -> None:
        store = self._world.stores[trip.store_id]
        if not await self._go(trip, stop, store.node):
            return
        await self._pause(_PARKS_S)
        if stop.status == "pending":
            self._learn(await self._phone.act(f"/v1/trips/{trip.id}/stops/{stop.n}/arrive"))
        store.counter.arrive(stop.order_id, trip.rider_code)
        try:
            while not (stop.over or trip.over):
                if not await self._wait(lambda: stop.over or trip.over, _ASKS_AGAIN_S):
                    await self._ask()
        finally:
            store.counter.leave(stop.order_id)
        if stop.status == "completed" and self._rng.random() < _OFFLINE_SHARE:
            self._phone.go_offline(self._rng.uniform(*_OFFLINE_S))

    async def _deliver(self, trip: KnownTrip, stop: KnownStop) -> None:
        node = self._world.roads.nearest_node(Point(stop.lat, stop.lon))
        if not await self._go(trip, stop, node):
            return
        await self._pause(_PARKS_S)
        path = f"/v1/trips/{trip.id}/stops/{stop.n}"
        if stop.status == "pending":
            self._learn(await self._phone.act(f"{path}/arrive"))
        door = self._world.doors.get(stop.order_id)
        if door is None or not door.at_home:
            await self._world.clock.sleep(_NOBODY_OPENS_S)
            await self._finish(trip, stop, f"{path}/fail", {"reason": "nobody_there"})
            await self._bring_back(trip, stop)
            return
        await self._world.clock.sleep(door.door_s)
        body: Json = {"otp": door.code}
        if stop.cash_due_minor:
            body["cash_collected"] = stop.cash_due_minor
        await self._finish(trip, stop, f"{path}/complete", body)

    async def _finish(self, trip: KnownTrip, stop: KnownStop, path: str, body: Json) -> None:
        """Say that a stop is done; a phone without a network says it later."""
        reply = await self._phone.act(path, body)
        if reply is None:
            await self._phone.replayed.wait()
            await self._ask()
            return
        if reply.code == "invalid":
            # The cash that is due has changed at this very moment: look, and try again.
            await self._ask()
            return
        self._learn(reply)

    async def _bring_back(self, trip: KnownTrip, stop: KnownStop) -> None:
        """Back to the store with what nobody took; its manager books it in."""
        store = self._world.stores[trip.store_id]
        self._head_for(store.node)
        await self._world.clock.sleep(max(0.0, self._ride.arrives_s - self._world.clock.now_s()))
        if store.manager is not None:
            path = f"/v1/ops/orders/{stop.order_id}/return"
            await store.manager.call("POST", path, {"restock": True}, key=f"return-{stop.order_id}")

    def _learn(self, reply: Reply | None) -> None:
        """Take in the trip that an action answers with; a refusal is found out by asking."""
        if reply is not None and reply.ok:
            self._trips.note(reply.data)

    async def _go(self, trip: KnownTrip, stop: KnownStop, node: int) -> bool:
        """Ride to a node; False when the trip or the stop is taken away on the way."""
        self._head_for(node)
        while (left_s := self._ride.arrives_s - self._world.clock.now_s()) > 0:
            if await self._wait(lambda: trip.over or stop.over, left_s):
                return False
        return not (trip.over or stop.over)

    def _head_for(self, node: int) -> None:
        if self._ride.nodes[-1] != node:
            now_s = self._world.clock.now_s()
            self._ride = motion.redirected(self._world.roads, self._ride, now_s, node, self._pace)

    async def _wait(self, happened: Any, timeout_s: float) -> bool:
        return await self._world.until(self._changed, happened, timeout_s)

    async def _pause(self, between_s: tuple[float, float]) -> None:
        await self._world.clock.sleep(self._rng.uniform(*between_s))
