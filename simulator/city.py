"""A simulated city: its streets and people are fetched or logged in, then the day runs.

Demand starts with the run and stops after its minutes; what is on its way then has a bounded time
to end, and whatever still stands is reported as it stands.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from geo.distances import Point
from geo.roads import RoadGraph
from kit.clock import Clock
from simulator.api import Api, Json, LoggedOut, Refused, Session, Unreachable
from simulator.customers import Customer, Regulars
from simulator.demand import HOUR_S, Demand, catalogue_of, places_around
from simulator.http_client import HttpClient
from simulator.pickers import Picker
from simulator.report import Span, result
from simulator.riders import Rider
from simulator.tally import Tally
from simulator.world import Counter, StorePlace, World

log = structlog.get_logger(__name__)

DRAIN_MINUTES: Final = 20.0
# Guests who come at once: more wait before the door, as a full shop's do.
_CUSTOMERS_AT_ONCE: Final = 600
_PAGE: Final = 100
# Riders and pickers log in over so many real seconds: a password costs the server 30 ms.
_LOG_IN_SPREAD_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """What to simulate; ``minutes`` None for a city without an end."""

    base_url: str
    city_id: str
    log_ins: Mapping[str, Any]
    seed: int
    minutes: float | None
    orders_per_hour: float
    drain_minutes: float = DRAIN_MINUTES
    # Refused when the server's clock runs at another speed; None takes whatever it has.
    speed: float | None = None

    @property
    def stretch_s(self) -> float:
        """Over which lunch and evening lie: the run, or an hour after the other."""
        return HOUR_S if self.minutes is None else self.minutes * 60.0


class City:
    """Open it, run it, read its result."""

    def __init__(self, run: Run, world: World, demand: Demand, skus: Sequence[str]) -> None:
        self.run_config = run
        self.world = world
        self.demand = demand
        self._skus = skus
        self._started_real_s = time.monotonic()
        self._started_virtual_s = world.clock.now_s()
        self._started_cpu_s = time.process_time()

    @classmethod
    async def open(
        cls, run: Run, http: HttpClient | None = None, not_wanted: Collection[str] = ()
    ) -> City:
        """Fetch clock, streets and catalogue.  Nobody will want the products ``not_wanted``.

        Raises Unreachable, Refused, and ValueError for a clock of another speed.
        """
        http = http or HttpClient(run.base_url)
        tally = Tally()
        clock = await _clock(Api(http, Clock(), tally))
        if run.speed is not None and not math.isclose(clock.speed, run.speed):
            raise ValueError(f"the server's clock runs at {clock.speed:g}, not {run.speed:g}")
        api = Api(http, clock, tally)
        streets = (await api.call("GET", f"/v1/cities/{run.city_id}/streets")).must()
        roads = RoadGraph.from_json_dict(streets)
        stores = await _stores(api, roads, run.log_ins)
        world = World(
            api=api, base_url=run.base_url, city_id=run.city_id, seed=run.seed,
            run_id=secrets.token_hex(4), roads=roads, stores=stores,
        )  # fmt: skip
        first_store = next(iter(stores))
        listing = await _listing(api, first_store)
        products, skus = catalogue_of([row for row in listing if row["sku_id"] not in not_wanted])
        demand = Demand(
            seed=run.seed,
            places=places_around(roads, [store.point for store in stores.values()], run.seed),
            products=products,
            orders_per_hour=run.orders_per_hour,
            stretch_s=run.stretch_s,
        )
        return cls(run, world, demand, skus)

    async def run(self, stopping: asyncio.Event) -> None:
        """The day, until its end or until told to stop."""
        clock = self.world.clock
        self._started_real_s = time.monotonic()
        self._started_virtual_s = clock.now_s()
        self._started_cpu_s = time.process_time()
        async with asyncio.TaskGroup() as tasks:
            staff = tasks.create_task(self._staff())
            day = tasks.create_task(self._day())
            told = tasks.create_task(stopping.wait())
            await asyncio.wait({day, told}, return_when=asyncio.FIRST_COMPLETED)
            for task in (staff, day, told):
                task.cancel()
        tally = self.world.tally
        tally.rider_s = tally.riders * (clock.now_s() - self._started_virtual_s)
        self.world.api.http.close()

    def result(self) -> dict[str, object]:
        """What has happened so far, as one JSON object."""
        run = self.run_config
        virtual_s = self.world.clock.now_s() - self._started_virtual_s
        demanded_s = virtual_s if run.minutes is None else run.minutes * 60.0
        # A city without an end is known by its first hour.
        known_by_s = HOUR_S if run.minutes is None else demanded_s
        span = Span(
            seed=run.seed,
            speed=self.world.clock.speed,
            minutes=round(demanded_s / 60.0, 2),
            demand_digest=self.demand.digest(known_by_s),
            ended_at=self.world.clock.now(),
            real_s=time.monotonic() - self._started_real_s,
            virtual_s=virtual_s,
            cpu_s=time.process_time() - self._started_cpu_s,
        )
        return result(span, self.world.tally, self.world.api.http.statistics)

    async def _staff(self) -> None:
        log_ins = self.run_config.log_ins
        stores = list(self.world.stores.values())
        async with asyncio.TaskGroup() as tasks:
            for n, picker in enumerate(log_ins["pickers"]):
                if picker["password"] is not None:
                    store = self.world.stores[picker["store_id"]]
                    person = Picker(self.world, store, picker["email"], picker["password"])
                    tasks.create_task(_at_work(person, n, len(log_ins["pickers"])))
            for n, rider in enumerate(log_ins["riders"]):
                if rider["password"] is not None:
                    self.world.tally.riders += 1
                    person_on_wheels = Rider(self.world, rider, stores[n % len(stores)])
                    tasks.create_task(_at_work(person_on_wheels, n, len(log_ins["riders"])))

    async def _day(self) -> None:
        """Everybody who wants something, at the time when they want it; then the drain."""
        run, world = self.run_config, self.world
        until_s = math.inf if run.minutes is None else run.minutes * 60.0
        regulars = Regulars(world)
        room = asyncio.Semaphore(_CUSTOMERS_AT_ONCE)
        drain_ends_s = self._started_virtual_s + until_s + run.drain_minutes * 60.0
        async with asyncio.TaskGroup() as tasks:
            visits: set[asyncio.Task[None]] = set()
            for wish in self.demand.orders(until_s):
                await world.clock.sleep(self._started_virtual_s + wish.at_s - world.clock.now_s())
                world.tally.demanded += 1
                await room.acquire()
                visit = tasks.create_task(Customer(world, regulars, self._skus, wish).run())
                visits.add(visit)
                visit.add_done_callback(visits.discard)
                visit.add_done_callback(lambda _visit: room.release())
            left_s = world.clock.real_s(drain_ends_s - world.clock.now_s())
            if visits:
                await asyncio.wait(set(visits), timeout=max(0.0, left_s))
            for visit in visits:
                visit.cancel()


async def _at_work(person: Picker | Rider, n: int, of: int) -> None:
    """Somebody's day; one who cannot log on is missed, and the day goes on."""
    await asyncio.sleep(_LOG_IN_SPREAD_S * n / of)
    while True:
        try:
            await person.run()
        except* (Refused, LoggedOut, Unreachable) as group:
            log.warning("simulated_worker_starts_again", reason=str(group.exceptions[0]))
        await asyncio.sleep(_LOG_IN_SPREAD_S)


async def _clock(api: Api) -> Clock:
    """The server's clock, anchored at the middle of the exchange that told it."""
    before_s = time.time()
    told = (await api.call("GET", "/v1/clock")).must()
    after_s = time.time()
    return _anchored(told, (before_s + after_s) / 2.0)


def _anchored(told: Json, real_s: float) -> Clock:
    virtual_s = datetime.fromisoformat(told["now"]).timestamp()
    return Clock(anchor_real_s=real_s, anchor_virtual_s=virtual_s, speed=float(told["speed"]))


async def _stores(api: Api, roads: RoadGraph, log_ins: Mapping[str, Any]) -> dict[str, StorePlace]:
    places = {}
    for store in log_ins["stores"]:
        point = Point(store["lat"], store["lon"])
        manager: Session | None = None
        log_in = store["log_ins"].get("manager")
        if log_in is not None and log_in["password"] is not None:
            manager = Session(api)
            await manager.log_in(log_in["email"], log_in["password"])
        places[store["id"]] = StorePlace(
            store["id"], point, roads.nearest_node(point), Counter(), manager
        )
    return places


async def _listing(api: Api, store_id: str) -> list[Json]:
    """All products of a store."""
    products: list[Json] = []
    cursor = ""
    while True:
        path = f"/v1/stores/{store_id}/products?limit={_PAGE}{cursor}"
        page = (await api.call("GET", path)).must()
        products += page["items"]
        if page["next_cursor"] is None:
            return products
        cursor = f"&cursor={page['next_cursor']}"
