"""What actors share outside of any app: the clock on the wall, streets, counters and doors.

A rider shows a phone at a store's counter and asks for a code at a door.  No server is asked for
that, so it happens here, in the process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from geo.distances import Point
from geo.roads import RoadGraph
from kit.clock import Clock
from simulator.api import Api, Session
from simulator.tally import Tally


@dataclass(frozen=True, slots=True)
class Door:
    """Where an order goes: its code, whether anybody opens, and how long that takes."""

    code: str
    at_home: bool
    door_s: float


class Counter:
    """A store's counter: riders who wait there, by order, each showing a code."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        self._served: set[str] = set()
        self._bells: set[asyncio.Event] = set()

    def arrive(self, order_id: str, rider_code: str) -> None:
        self._waiting[order_id] = rider_code
        for bell in self._bells:
            bell.set()

    def leave(self, order_id: str) -> None:
        self._waiting.pop(order_id, None)

    def unserved(self, order_id: str) -> bool:
        """Whether a rider waits for the order and nobody is at it."""
        return order_id in self._waiting and order_id not in self._served

    @contextmanager
    def serve(self, order_id: str) -> Iterator[str]:
        """Serve a waiting rider, who shows a code; nobody else does meanwhile."""
        self._served.add(order_id)
        try:
            yield self._waiting[order_id]
        finally:
            self._served.discard(order_id)

    def listen(self, bell: asyncio.Event) -> None:
        """Ring ``bell`` whenever a rider arrives."""
        self._bells.add(bell)


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store, its counter and its manager's session (None without a log-in)."""

    store_id: str
    point: Point
    node: int
    counter: Counter
    manager: Session | None


@dataclass(frozen=True)
class World:
    """One city."""

    api: Api
    base_url: str
    city_id: str
    seed: int
    # Parts the keys and addresses of this run from those of every other.
    run_id: str
    roads: RoadGraph
    stores: dict[str, StorePlace]
    doors: dict[str, Door] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        return self.api.clock

    @property
    def tally(self) -> Tally:
        return self.api.tally

    @property
    def stream_url(self) -> str:
        return "ws" + self.base_url.removeprefix("http") + "/v1/stream"

    def rng(self, *name: object) -> random.Random:
        """The dice of one actor."""
        return random.Random(":".join(str(part) for part in (self.seed, *name)))

    async def until(
        self, changed: asyncio.Event, happened: Callable[[], bool], timeout_s: float
    ) -> bool:
        """Wait until ``happened`` after ``changed`` was set, for virtual seconds at most."""
        deadline_s = self.clock.now_s() + timeout_s
        while not happened():
            left_s = deadline_s - self.clock.now_s()
            if left_s <= 0:
                return False
            changed.clear()
            try:
                async with asyncio.timeout(self.clock.real_s(left_s)):
                    await changed.wait()
            except TimeoutError:
                return happened()
        return True


def rfc3339(moment_s: float) -> str:
    """POSIX seconds as UTC text with milliseconds."""
    moment = datetime.fromtimestamp(moment_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
