"""A whole running system and the people of its cities, for tests through the public API alone.

Each test takes a city of its own (one store, two pickers, riders), so that tests share processes
but neither stock, nor queues, nor riders.  Cities are rows made before the processes start.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import insert, text

from catalog import repository as catalog
from catalog.repository import Price
from identity.model import Role
from identity.passwords import Passwords
from identity.service import create_staff
from kit.db import Database
from kit.ids import new_id
from kit.ports import free_port
from riders.tables import riders
from stores import repository as stores
from stores.layout import ShelvedProduct
from stores.repository import City, Delivery, Store
from stores.service import carry
from tests.http_support import CHEAP_ARGON2
from tests.store_support import make_draft
from tests.support import Addresses, migrated_template, new_database, opened_database, own_redis

ROOT = Path(__file__).parents[1]
SPEED = 20.0
CITIES = 64
RIDERS = 2
# Generous, because it bounds a failure and not a success.
PATIENCE_S = 20.0
PASSWORD = "one password for all of them"

Found = TypeVar("Found")

# Virtual durations are long where a busy machine must not let them run out, real ones short
# where a test waits for them.
ENVIRONMENT = {
    "DARKSTORE_HTTP__RATE_LIMITS__ENABLED": "false",
    "DARKSTORE_IDENTITY__ARGON2__TIME_COST": "1",
    "DARKSTORE_IDENTITY__ARGON2__MEMORY_COST_KIB": "8",
    "DARKSTORE_IDENTITY__ACCESS_LIFE_S": "86400",
    "DARKSTORE_ORDERS__OPEN_ORDERS__CUSTOMER_MAX": "100",
    "DARKSTORE_ORDERS__OPEN_ORDERS__GUEST_MAX": "100",
    "DARKSTORE_ORDERS__RESERVATION_HOLD_S": "1200",
    "DARKSTORE_ORDERS__QUOTE_LIFE_S": "1200",
    "DARKSTORE_PAYMENTS__DEADLINE_S": "1.5",
    "DARKSTORE_PAYMENTS__FIRST_LOOKUP_S": "0.4",
    "DARKSTORE_PAYMENTS__BACKOFF_CAP_S": "1",
    "DARKSTORE_RIDERS__OFFER_LIFE_S": "100",
    "DARKSTORE_RIDERS__SILENT_AFTER_S": "3600",
    "DARKSTORE_RIDERS__WATCH__LOST_AFTER_S": "36000",
    "DARKSTORE_RIDERS__WATCH__CARRYING_LOST_AFTER_S": "36000",
    "DARKSTORE_RIDERS__WATCH__LATE_S": "36000",
}


async def eventually(
    look: Callable[[], Awaitable[Found | None]], what: str, within_s: float = PATIENCE_S
) -> Found:
    """The first thing that ``look`` finds; fails with ``what`` when nothing comes in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain for {what}"
        await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Product:
    sku_id: str
    name: str
    price_minor: int


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody with a log-in."""

    user_id: str
    email: str
    rider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A city of one store."""

    city: City
    store: Store
    pickers: tuple[Member, ...]
    riders: tuple[Member, ...]
    manager: Member
    ops: Member

    @property
    def dropoff(self) -> dict[str, object]:
        return {"lat": self.store.lat + 0.004, "lon": self.store.lon, "address": "1 Test Street"}


@dataclass
class Caller:
    """Somebody who is logged in.  ``post`` fails unless the answer is as expected."""

    http: httpx.AsyncClient
    token: str
    user_id: str

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = await self.http.get(path, headers=self._headers(None), params=params)
        assert answer.status_code == status, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def send(
        self, path: str, body: Mapping[str, object] | None = None, *, key: str | None = None
    ) -> httpx.Response:
        return await self.http.post(path, json=body or {}, headers=self._headers(key))

    async def post(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        status: int | None = None,
        key: str | None = None,
    ) -> Any:
        answer = await self.send(path, body, key=key)
        right = answer.is_success if status is None else answer.status_code == status
        assert right, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def refused(
        self, path: str, body: Mapping[str, object] | None, status: int, code: str
    ) -> Any:
        """Post what must be refused with that problem."""
        problem = await self.post(path, body, status=status)
        assert problem["code"] == code, problem
        return problem

    def _headers(self, key: str | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.token}"}
        return headers if key is None else {**headers, "Idempotency-Key": key}


@dataclass
class System:
    """The running processes, a client, and the database behind them (to look and to stock)."""

    base_url: str
    database: Database
    database_url: str
    redis_url: str
    data_dir: Path
    http: httpx.AsyncClient
    provider: httpx.AsyncClient
    places: list[Place] = field(default_factory=list)

    def take_place(self) -> Place:
        assert self.places, f"more than {CITIES} tests want a city: raise CITIES"
        return self.places.pop()

    async def customer(self) -> Caller:
        answer = (await self.http.post("/v1/auth/guest")).json()
        return Caller(self.http, answer["access_token"], answer["user"]["id"])

    async def log_in(self, member: Member) -> Caller:
        answer = await self.http.post(
            "/v1/auth/login", json={"email": member.email, "password": PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        return Caller(self.http, answer.json()["access_token"], member.user_id)

    async def now(self) -> str:
        return str((await self.http.get("/v1/clock")).json()["now"])

    async def stock(self, place: Place, units: int = 50, *prices_minor: int) -> list[Product]:
        """New products on the place's shelves, one for each price."""
        async with self.database.begin() as conn:
            return await put_on_sale(conn, place.store, units, prices_minor or (6_000,))

    async def rows(self, statement: str, **parameters: object) -> list[dict[str, Any]]:
        async with self.database.begin() as conn:
            found = await conn.execute(text(statement), parameters)
            return [dict(row) for row in found.mappings()]

    async def operations(self, order_id: str) -> list[dict[str, Any]]:
        """What took effect at the payment provider for an order, by its own log."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": "200", **({"cursor": cursor} if cursor else {})}
            page = (await self.provider.get("/v1/operations", params=params)).json()
            found += [item for item in page["items"] if item["order_reference"] == order_id]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


async def put_on_sale(
    conn: Any, store: Store, units: int, prices_minor: Sequence[int]
) -> list[Product]:
    """New products on a store's shelves, one for each price; returned in the order of prices."""
    drafts = [
        make_draft(f"Product {n}", price_minor=price, list_price_minor=price)
        for n, price in enumerate(prices_minor, start=1)
    ]
    counts = await catalog.import_products(conn, drafts)
    made = [
        Product(counts.sku_ids[draft.external_id], draft.name, draft.price_minor)
        for draft in drafts
    ]
    prices = [Price(product.sku_id, product.price_minor, product.price_minor) for product in made]
    await catalog.set_prices(conn, store.id, "INR", prices)
    shelved = [
        ShelvedProduct(product.sku_id, draft.temperature.value, draft.categories[0])
        for product, draft in zip(made, drafts, strict=True)
    ]
    await carry(conn, store.id, shelved)
    deliveries = [Delivery(product.sku_id, units, None) for product in made]
    await stores.receive(conn, store.id, deliveries, "test")
    return made


async def make_place(database: Database, n: int, rider_count: int = RIDERS) -> Place:
    """City ``n`` with its store and people; cities lie a degree apart."""
    lat, lon = 10.0 + n % 40, 70.0 + n // 40
    square = {
        "type": "Polygon",
        "coordinates": [
            [
                [lon - 0.01, lat - 0.01],
                [lon + 0.01, lat - 0.01],
                [lon + 0.01, lat + 0.01],
                [lon - 0.01, lat + 0.01],
                [lon - 0.01, lat - 0.01],
            ]
        ],
    }
    async with database.begin() as conn:
        city = City(new_id("cty"), f"City {new_id('tst')}", "INR", lat, lon)
        store = Store(new_id("sto"), city.id, f"Store {n}", lat, lon, True, None)
        await stores.add_city(conn, city)
        await stores.add_store(conn, store, square)
        pickers = tuple([await _hire(conn, Role.PICKER, city, store) for _ in range(2)])
        manager = await _hire(conn, Role.STORE_MANAGER, city, store)
        ops = await _hire(conn, Role.OPS, city, None)
        riding = tuple([await _hire(conn, Role.RIDER, city, None) for _ in range(rider_count)])
    return Place(city, store, pickers, riding, manager, ops)


async def _hire(conn: Any, role: Role, city: City, store: Store | None) -> Member:
    in_store = role in (Role.PICKER, Role.STORE_MANAGER) and store is not None
    log_in = await create_staff(
        conn,
        Passwords(CHEAP_ARGON2),
        role=role,
        name=f"{role.value.title()} Test",
        email=f"{new_id('tst').lower()}@darkstore.example",
        store_ids=[store.id] if in_store and store else [],
        city_ids=[] if in_store else [city.id],
        password=PASSWORD,
    )
    if role is not Role.RIDER:
        return Member(log_in.user_id, log_in.email)
    rider_id = new_id("rdr")
    await conn.execute(
        insert(riders).values(
            id=rider_id, user_id=log_in.user_id, city_id=city.id, name="Rider Test",
            vehicle="scooter", capacity_orders=2, capacity_g=25_000,
        )
    )  # fmt: skip
    return Member(log_in.user_id, log_in.email, rider_id)


@asynccontextmanager
async def open_system(engines: Addresses, data_dir: Path) -> AsyncIterator[System]:
    """``darkstore up`` on a database and a Redis of its own, with its cities."""
    async with AsyncExitStack() as stack:
        name = await stack.enter_async_context(migrated_template(engines.database_url))
        url = await stack.enter_async_context(new_database(engines.database_url, name))
        redis_url = await stack.enter_async_context(own_redis(engines.redis_url))
        database = await stack.enter_async_context(opened_database(url, size=4))
        places = [await make_place(database, n) for n in range(CITIES)]
        data_dir.mkdir(parents=True)
        env = {**os.environ, **ENVIRONMENT, "DATABASE_URL": url, "REDIS_URL": redis_url}
        process = await stack.enter_async_context(_darkstore_up(data_dir, env))
        del process
        addresses = json.loads((data_dir / "addresses.json").read_bytes())
        base_url = f"http://127.0.0.1:{addresses['http_port']}"
        limits = httpx.Limits(max_connections=250)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=base_url, timeout=30, limits=limits, trust_env=False)
        )
        api_key = (data_dir / "provider-api-key").read_text()
        provider = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{addresses['provider_port']}",
                headers={"Authorization": f"Bearer {api_key}"},
                trust_env=False,
            )
        )
        yield System(base_url, database, url, redis_url, data_dir, http, provider, places)


@asynccontextmanager
async def _darkstore_up(
    data_dir: Path, env: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command as a process, once it says that it is up."""
    log = (data_dir / "up.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        # Not the usual port: somebody may run a system on this machine.
        sys.executable, "-m", "server.cli", "up", "--port", str(free_port()),
        "--data-dir", str(data_dir), "--speed", str(SPEED),
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 180)
        assert b"is up" in line, (data_dir / "up.log").read_text()
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()
        log.close()


# What people do, one after another: the steps of an order.


async def quote(
    customer: Caller, place: Place, lines: Mapping[str, int], **changes: object
) -> dict[str, Any]:
    """A quote for so many units of these products."""
    body = {
        "store_id": place.store.id,
        "lines": [{"sku_id": sku, "quantity": n} for sku, n in lines.items()],
        "dropoff": place.dropoff,
        **changes,
    }
    made: dict[str, Any] = await customer.post("/v1/quotes", body, status=201)
    return made


def checkout_body(
    quote_id: str, token: str | None = "tok_ok", method: str = "card", **changes: object
) -> dict[str, object]:
    payment = {"method": method} if token is None else {"method": method, "token": token}
    return {"quote_id": quote_id, "payment": payment, **changes}


async def place_order(
    customer: Caller,
    place: Place,
    lines: Mapping[str, int],
    *,
    token: str | None = "tok_ok",
    method: str = "card",
    **quoted: object,
) -> dict[str, Any]:
    """Quote and check out; the order as the answer shows it."""
    made = await quote(customer, place, lines, **quoted)
    body = checkout_body(made["id"], token, method)
    order: dict[str, Any] = await customer.post("/v1/orders", body, status=201, key=new_id("key"))
    return order


async def queued_task(picker: Caller, place: Place, order_id: str) -> dict[str, Any]:
    """The pick task of an order, once it is in the store's queue."""

    async def look() -> dict[str, Any] | None:
        found = await picker.get(f"/v1/stores/{place.store.id}/pick-tasks")
        return next((task for task in found["items"] if task["order_id"] == order_id), None)

    return await eventually(look, f"the pick task of {order_id}")


async def claim(picker: Caller, place: Place, order_id: str) -> dict[str, Any]:
    """Claim the order's task."""
    task = await queued_task(picker, place, order_id)
    path = f"/v1/stores/{place.store.id}/pick-tasks/claim"
    claimed: dict[str, Any] = await picker.post(path, {"pick_task_id": task["id"]})
    assert claimed["id"] == task["id"]
    return claimed


async def scan_line(picker: Caller, task: Mapping[str, Any], line: Mapping[str, Any]) -> None:
    """Pick what is still open of a line."""
    left = line["quantity"] - line["picked"] - line["missing"]
    if left:
        body = {
            "line_id": line["line_id"], "barcode": line["barcode"], "bin": line["bin"],
            "quantity": left,
        }  # fmt: skip
        await picker.post(f"/v1/pick-tasks/{task['id']}/scan", body)


async def pick_and_pack(
    picker: Caller, place: Place, order_id: str, missing: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Claim, scan all (but report so many missing by sku), pack; the packed task."""
    task = await claim(picker, place, order_id)
    for line in task["lines"]:
        gone = (missing or {}).get(line["sku_id"], 0)
        if gone:
            body = {"line_id": line["line_id"], "missing": gone, "reason": "not_found"}
            await picker.post(f"/v1/pick-tasks/{task['id']}/short", body)
        await scan_line(picker, task, {**line, "missing": gone})
    path = f"/v1/pick-tasks/{task['id']}/pack"
    packed: dict[str, Any] = await picker.post(path, {"bags": 1, "shelf": "A1"})
    assert packed["status"] == "packed"
    return packed


async def on_shift(system: System, place: Place, member: Member) -> Caller:
    """A rider on shift, standing at the store."""
    rider = await system.log_in(member)
    await rider.post("/v1/riders/me/shift/start", {"hours": 10}, status=201)
    await report_position(system, rider, place.store.lat, place.store.lon)
    return rider


async def report_position(system: System, rider: Caller, lat: float, lon: float) -> None:
    point = {"t": await system.now(), "lat": lat, "lon": lon}
    await rider.post("/v1/riders/me/positions", {"points": [point]})


async def next_offer(rider: Caller) -> dict[str, Any]:
    """The offer that a rider gets."""

    async def look() -> dict[str, Any] | None:
        found = (await rider.get("/v1/riders/me/offers"))["items"]
        return found[0] if found else None

    return await eventually(look, "an offer")


async def take_offer(rider: Caller) -> dict[str, Any]:
    """Accept the rider's next offer; the trip."""
    offer = await next_offer(rider)
    trip: dict[str, Any] = await rider.post(f"/v1/offers/{offer['id']}/accept")
    return trip


async def collect(rider: Caller, picker: Caller, trip: Mapping[str, Any], task_id: str) -> None:
    """The rider comes to the store and gets the bags."""
    await rider.post(f"/v1/trips/{trip['id']}/stops/1/arrive")
    body = {"rider_code": trip["rider_code"]}
    await picker.post(f"/v1/pick-tasks/{task_id}/handover", body)


async def drop_off(
    rider: Caller, trip: Mapping[str, Any], code: str, cash_collected: int | None = None
) -> dict[str, Any]:
    """The rider comes to the door and hands over against the code."""
    await rider.post(f"/v1/trips/{trip['id']}/stops/2/arrive")
    body: dict[str, object] = {"otp": code}
    if cash_collected is not None:
        body["cash_collected"] = cash_collected
    done: dict[str, Any] = await rider.post(f"/v1/trips/{trip['id']}/stops/2/complete", body)
    return done


async def until_status(
    customer: Caller, order_id: str, *, within_s: float = PATIENCE_S, **wanted: str
) -> dict[str, Any]:
    """The order, once its states are as wanted."""
    seen: dict[str, Any] = {}

    async def look() -> dict[str, Any] | None:
        seen.update(await customer.get(f"/v1/orders/{order_id}"))
        return seen if all(seen[name] == value for name, value in wanted.items()) else None

    try:
        return await eventually(look, f"{order_id} to be {wanted}", within_s)
    except AssertionError as error:
        states = {name: seen.get(name) for name in wanted}
        raise AssertionError(f"{error}; it is {states}") from None
