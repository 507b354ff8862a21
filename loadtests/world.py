"""What the simulated people of a load test know together: log-ins, demand, and who holds what.

Everything is in the memory of one locust process.  A rider cannot read a customer's delivery code
over the API, nor a picker a rider's; at a counter and at a door people simply say them, and
``Desk`` is where they do.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulator.demand import Demand, DemandedOrder, Places, Point, Product, catalogue_of

LOG_INS_VARIABLE = "DARKSTORE_LOG_INS"
SEED_VARIABLE = "DARKSTORE_LOAD_SEED"
# Homes on rings around each store, well within every zone.
RINGS_M = (200.0, 450.0, 700.0)
HOMES_A_RING = 8
METRES_A_DEGREE = 111_320.0


@dataclass(frozen=True, slots=True)
class LogIn:
    """``place`` is the store of a picker; for a rider where the shift begins."""

    email: str
    password: str
    store_id: str
    place: Point
    rider_id: str | None = None


@dataclass(slots=True)
class Desk:
    """Words said at counters and doors; keys are order ids unless another is named."""

    delivery_codes: dict[str, str] = field(default_factory=dict)
    pick_tasks: dict[str, str] = field(default_factory=dict)
    # By store: (order id, rider code) of riders who wait at the counter.
    counters: dict[str, deque[tuple[str, str]]] = field(default_factory=lambda: defaultdict(deque))
    placed: int = 0
    delivered: int = 0


@dataclass(slots=True)
class VirtualClock:
    """The system's clock as told over HTTP; the answer that came fastest is believed."""

    speed: float = 1.0
    _ahead_s: float = 0.0
    _round_trip_s: float = math.inf

    def learn(self, told: dict[str, Any], sent_s: float, received_s: float) -> None:
        """Take an answer of ``GET /v1/clock``; ``sent_s`` and ``received_s`` are POSIX seconds."""
        if received_s - sent_s < self._round_trip_s:
            self.speed, self._round_trip_s = told["speed"], received_s - sent_s
            virtual_s = datetime.fromisoformat(told["now"]).timestamp()
            self._ahead_s = virtual_s - self.speed * (sent_s + received_s) / 2

    def now(self) -> datetime:
        """Virtual time, aware, in UTC."""
        return datetime.fromtimestamp(self._ahead_s + self.speed * time.time(), UTC)

    def age_s(self, at: str) -> float:
        """Real seconds since a virtual moment, not below 0."""
        return max(0.0, (self.now() - datetime.fromisoformat(at)).total_seconds() / self.speed)


class World:
    """The seeded city: its log-ins, handed out once each, and an endless demand."""

    def __init__(self, path: Path) -> None:
        seeded = json.loads(path.read_text(encoding="utf-8"))
        self.stores: dict[str, Point] = {
            store["id"]: Point(store["lat"], store["lon"]) for store in seeded["stores"]
        }
        self.pickers = deque(_log_ins(seeded["pickers"], self.stores))
        self.riders = deque(_log_ins(seeded["riders"], self.stores))
        self.desk = Desk()
        self.clock = VirtualClock()
        self._orders: Iterator[DemandedOrder] | None = None
        self._sku_ids: Sequence[str] = ()

    def open_demand(self, listing: Sequence[dict[str, Any]]) -> None:
        """Start the demand over a store's listing; later calls change nothing."""
        if self._orders is not None:
            return
        products, self._sku_ids = catalogue_of(listing)
        seed = int(os.environ.get(SEED_VARIABLE, "7"))
        self._orders = _demand(seed, list(self.stores.values()), products).orders()

    def next_order(self) -> tuple[DemandedOrder, list[dict[str, object]]]:
        """The next wish, and its lines as a quote takes them."""
        assert self._orders is not None, "open_demand comes first"
        wish = next(self._orders)
        lines: list[dict[str, object]] = [
            {"sku_id": self._sku_ids[line.product], "quantity": line.quantity}
            for line in wish.lines
        ]
        return wish, lines


def _log_ins(people: Sequence[dict[str, Any]], stores: dict[str, Point]) -> list[LogIn]:
    """Those whose password is known (an earlier seed's are not), spread over the stores."""
    store_ids = sorted(stores)
    found = []
    for n, person in enumerate(people):
        if person["password"] is None:
            continue
        store_id = person.get("store_id") or store_ids[n % len(store_ids)]
        found.append(
            LogIn(
                email=person["email"],
                password=person["password"],
                store_id=store_id,
                place=stores[store_id],
                rider_id=person.get("rider_id"),
            )
        )
    return found


def _demand(seed: int, stores: Sequence[Point], products: Sequence[Product]) -> Demand:
    homes = [home for store in stores for home in _homes(store)]
    return Demand(
        seed=seed,
        places=Places(
            nodes=tuple(range(len(homes))),
            points=tuple(homes),
            cumulated=tuple((n + 1) / len(homes) for n in range(len(homes))),
        ),
        products=products,
    )


def _homes(store: Point) -> list[Point]:
    """Doors on rings around a store."""
    east_m = METRES_A_DEGREE * math.cos(math.radians(store.lat))
    return [
        Point(
            store.lat + ring_m * math.sin(angle) / METRES_A_DEGREE,
            store.lon + ring_m * math.cos(angle) / east_m,
        )
        for ring_m in RINGS_M
        for angle in (math.tau * n / HOMES_A_RING for n in range(HOMES_A_RING))
    ]


def load_world() -> World:
    """The city whose log-ins ``DARKSTORE_LOG_INS`` names.  Raises SystemExit with one sentence."""
    name = os.environ.get(LOG_INS_VARIABLE)
    if not name or not Path(name).is_file():
        raise SystemExit(
            f"Set {LOG_INS_VARIABLE} to a file with the output of `darkstore seed --json`"
            " (a demo keeps one as log-ins.json in its data directory)."
        )
    return World(Path(name))
