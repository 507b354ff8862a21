"""Riders: shift, offers, the way to the store and to the door, and phones that lose the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, TypeGuard

from geo.distances import Point
from simulator import motion
from simulator.api import Json, Refused, Reply, Session, Unreachable
from simulator.moods import Mood
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
# Of the proposals where to wait: most are followed, some are dismissed, the rest not looked at.
_FOLLOW_SHARE: Final = 0.7
_DISMISS_SHARE: Final = 0.1

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
        self._mood = Mood(world.rng("mood", log_in["email"]))
        # Why there are no offers until the rider says that they may come again.
        self._paused: str | None = None
        # Stops of the trip that are done, while the phone has no network to say so.
        self._told: set[int] = set()
        # (store, order) of what nobody took at the door.
        self._unwanted: list[tuple[str, str]] = []
        # Where the rider waits for now, a proposal, and the last one that was thought over.
        self._waits_at = home
        self._proposal: Json | None = None
        self._considered = ""
        # The trip that may have gone wrong on the way to the store, once.
        self._luck_tried: set[str] = set()
        self._changed = asyncio.Event()
        self._ride = motion.standing(world.roads, home.node, world.clock.now_s())
        self._shift_ends_s = 0.0
        self._heard_s = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        await self._session.log_in(self._log_in["email"], self._log_in["password"])
        await self._start_shift()
        if self._mood.takes_all:
            choice = {"auto_accept": True}
            await self._session.call("PUT", "/v1/riders/me/preferences", choice)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stream.run())
            tasks.create_task(self._report_positions())
            tasks.create_task(self._work())

    # What the phone hears.

    def _on_snapshot(self, data: dict[str, Any]) -> None:
        self._offers = {offer["id"]: offer for offer in data["offers"]}
        self._trips.replace(data["trips"])
        self._proposal = data.get("proposal")
        self._note_pause(data["availability"])
        self._changed.set()

    def _on_event(self, event_type: str, data: dict[str, Any]) -> None:
        match event_type:
            case "offer.made":
                self._world.tally.offers["made"] += 1
                if data["auto_accept"]:
                    self._world.tally.offers["unasked"] += 1
                else:
                    self._offers[data["id"]] = data
            case "rider.availability":
                self._note_pause(data)
            case "offer.closed":
                self._offers.pop(data["offer_id"], None)
                if data["reason"] in ("accepted", "declined", "expired"):
                    self._world.tally.offers[data["reason"]] += 1
            case "trip.changed":
                self._trips.note(data)
            case "rider.proposal":
                self._proposal = data["proposal"]
        self._changed.set()

    def _note_pause(self, availability: Json) -> None:
        """A pause with an end is over by itself; one without waits for the rider."""
        waits = availability["status"] == "paused" and availability["until"] is None
        self._paused = availability["reason"] if waits else None

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
            self._waits_at = self._home
            self._world.tally.riders_busy_now += 1
            started_s = self._world.clock.now_s()
            try:
                await self._ride_trip(trip)
            finally:
                self._world.tally.riders_busy_now -= 1
                self._world.tally.busy_s += self._world.clock.now_s() - started_s
            return
        if self._unwanted:
            await self._bring_back(*self._unwanted[-1])
            self._unwanted.pop()
            return
        if self._offers:
            _, offer = self._offers.popitem()
            await self._answer(offer)
            return
        if self._paused is not None:
            await self._come_back(self._paused)
            return
        if self._world.clock.now_s() > self._shift_ends_s - _SHIFT_MARGIN_S:
            await self._renew_shift()
        if self._is_new(self._proposal):
            await self._consider(self._proposal)
        self._head_for(self._waits_at.node)
        heard = await self._world.until(
            self._changed,
            lambda: (
                bool(self._offers) or self._trips.next() is not None or self._is_new(self._proposal)
            ),
            _IDLE_LOOK_S * self._rng.uniform(0.8, 1.2),
        )
        if not heard and not self._phone.offline:
            await self._ask()

    def _is_new(self, proposal: Json | None) -> TypeGuard[Json]:
        return (
            proposal is not None
            and proposal["id"] != self._considered
            and proposal["store_id"] in self._world.stores
            and not self._phone.offline
        )

    async def _consider(self, proposal: Json) -> None:
        """Go and wait where the proposal says, or not: it costs nothing either way."""
        self._considered = proposal["id"]
        path = f"/v1/riders/me/proposal/{proposal['id']}"
        dice = self._rng.random()
        if dice < _FOLLOW_SHARE:
            self._waits_at = self._world.stores[proposal["store_id"]]
            self._world.tally.proposals["followed"] += 1
            await self._phone.act(f"{path}/accept")
        elif dice < _FOLLOW_SHARE + _DISMISS_SHARE:
            self._world.tally.proposals["dismissed"] += 1
            await self._phone.act(f"{path}/dismiss")
        else:
            self._world.tally.proposals["ignored"] += 1

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
            reason = self._mood.decline_reason()
            await self._phone.act(f"/v1/offers/{offer['id']}/decline", {"reason": reason})
            return
        reply = await self._phone.act(f"/v1/offers/{offer['id']}/accept")
        if reply is not None and reply.ok:
            self._trips.note(reply.data)

    async def _ride_trip(self, trip: KnownTrip) -> None:
        """Stop after stop, until the trip is over or taken away; it may grow before the pickup."""
        while not trip.over:
            if self._told and not self._phone.offline:
                await self._ask()
                self._told.clear()
            stop = trip.next_stop(self._told)
            if stop is None and self._told:
                await self._phone.replayed.wait()
                continue
            if stop is not None and stop.kind == "pickup":
                await self._collect(trip, stop)
            elif stop is not None:
                await self._deliver(trip, stop)
            if stop is None or not (stop.over or trip.over or stop.n in self._told):
                # Neither done nor taken away: ask how things stand, and begin again from there.
                await self._pause((_HURRIES_S, 2 * _HURRIES_S))
                await self._ask()
                return

    async def _collect(self, trip: KnownTrip, stop: KnownStop) -> None:
        """One arrival for all bags; off with them when each is there or has been given up."""
        store = self._world.stores[trip.store_id]
        if stop.status == "pending" and await self._drops_out(trip):
            return
        if not await self._go(trip, stop, store.node):
            return
        await self._pause(_PARKS_S)
        if stop.status == "pending":
            self._learn(await self._phone.act(f"/v1/trips/{trip.id}/stops/{stop.n}/arrive"))
        shown: set[str] = set()
        try:
            while not trip.over and (waiting := _orders(trip.waiting_pickups())):
                for order_id in waiting - shown:
                    store.counter.arrive(order_id, trip.rider_code)
                shown |= waiting
                if not await self._wait(_differs(trip, waiting), _ASKS_AGAIN_S):
                    await self._ask()
        finally:
            for order_id in shown:
                store.counter.leave(order_id)
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
            await self._finish(stop, f"{path}/fail", {"reason": "nobody_there"})
            self._unwanted.append((trip.store_id, stop.order_id))
            return
        await self._world.clock.sleep(door.door_s)
        body: Json = {"otp": door.code}
        if stop.cash_due_minor:
            body["cash_collected"] = stop.cash_due_minor
        await self._finish(stop, f"{path}/complete", body)

    async def _finish(self, stop: KnownStop, path: str, body: Json) -> None:
        """Say that a stop is done, now or when the network is back: the ride goes on either way."""
        reply = await self._phone.act(path, body)
        if reply is None:
            self._told.add(stop.n)
            return
        if reply.code == "invalid":
            # The cash that is due has changed at this very moment: look, and try again.
            await self._ask()
            return
        self._learn(reply)

    async def _bring_back(self, store_id: str, order_id: str) -> None:
        """Back to the store with what nobody took; its manager books it in."""
        store = self._world.stores[store_id]
        self._head_for(store.node)
        await self._world.clock.sleep(max(0.0, self._ride.arrives_s - self._world.clock.now_s()))
        if store.manager is not None:
            path = f"/v1/ops/orders/{order_id}/return"
            await store.manager.call("POST", path, {"restock": True}, key=f"return-{order_id}")

    async def _drops_out(self, trip: KnownTrip) -> bool:
        """On the way to the store: gives the trip back, or is not heard of for a while.

        Whether the trip is lost by it; who is back early enough rides on.
        """
        if trip.id in self._luck_tried or self._phone.offline:
            return False
        self._luck_tried = {trip.id}
        reason = self._mood.hands_back()
        if reason is not None:
            self._world.tally.dropped_out["handed_back"] += 1
            path = f"/v1/trips/{trip.id}/hand-back"
            self._learn(await self._phone.act(path, {"reason": reason}))
            return trip.over
        gone_s = self._mood.vanishes_for_s()
        if gone_s is None:
            return False
        self._world.tally.dropped_out["vanished"] += 1
        self._phone.go_offline(gone_s)
        await self._phone.replayed.wait()
        await self._ask()
        return trip.over

    async def _come_back(self, reason: str) -> None:
        """One tap, after a while; who wanted the shift to end begins another."""
        await self._world.clock.sleep(self._mood.back_after_s(reason))
        if reason == "shift_ends":
            await self._renew_shift()
        else:
            await self._phone.act("/v1/riders/me/availability", {"available": True})
        self._paused = None

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


def _orders(stops: Iterable[KnownStop]) -> set[str]:
    return {stop.order_id for stop in stops}


def _differs(trip: KnownTrip, waiting: set[str]) -> Callable[[], bool]:
    """Whether other orders wait at the counter than these."""

    def differs() -> bool:
        return trip.over or _orders(trip.waiting_pickups()) != waiting

    return differs
