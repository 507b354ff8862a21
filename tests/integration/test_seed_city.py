"""The seed: a whole city, once."""

from __future__ import annotations

import io
import json
import secrets
from pathlib import Path

import pytest
from redis.asyncio import Redis
from rich.console import Console
from sqlalchemy import func, select

from geo.distances import Point
from geo.roads import RoadGraph
from geo.travel import TravelTimes
from geo.zones import ZoneIndex, zone_from_geojson
from identity.model import Role
from identity.passwords import Passwords
from identity.settings import Argon2Settings
from identity.tables import users
from kit.clock import load_clock
from kit.db import Database
from riders.tables import riders, road_networks
from server.seed import seed
from server.seed_report import SeedResult, print_result, terminal_progress
from server.wiring import Services
from stores import availability_redis, repository
from stores.tables import bins, lots, stock
from tests.http_support import make_services

CATALOGUE = """external_id,name,categories,unit,weight_g,price_minor,temperature,shelf_life_days,initial_quantity
{x}-1,Milk {x},Dairy|Breakfast,1 l,1050,6000,chilled,5,10
{x}-2,Rice {x},Staples,1 kg,1000,9000,ambient,,7
{x}-3,Peas {x},Frozen food,500 g,500,8000,frozen,90,0
{x}-4,Broken {x},Staples,1 kg,1000,0,ambient,,3
"""  # noqa: E501  # a header is one line


@pytest.fixture(scope="module")
def name() -> str:
    """A city that no other run has seeded."""
    return f"Test {secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    path = tmp_path_factory.mktemp("seed") / "products.csv"
    path.write_text(CATALOGUE.format(x=name), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
async def services(database: Database, redis: Redis) -> Services:
    async with database.begin() as conn:
        return make_services(database, redis, clock=await load_clock(conn))


@pytest.fixture(scope="module")
async def seeded(services: Services, catalogue: Path, name: str) -> SeedResult:
    return await _seed(services, catalogue, name)


async def _seed(services: Services, catalogue: Path, name: str) -> SeedResult:
    return await seed(
        services,
        catalogue=catalogue,
        city_seed=3,
        city_name=name,
        stores=2,
        riders=3,
        pickers_per_store=1,
    )


async def test_a_city_has_stores_zones_and_streets(database: Database, seeded: SeedResult) -> None:
    """Each store lies in the zone of its own, and the city's streets and travel times load."""
    async with database.begin() as conn:
        zones = await repository.list_zones(conn, seeded.city.id)
        network = (
            await conn.execute(
                select(road_networks).where(road_networks.c.city_id == seeded.city.id)
            )
        ).one()
    index = ZoneIndex([zone_from_geojson(zone.store_id, zone.polygon) for zone in zones])
    for store in seeded.stores:
        assert index.zone_at(Point(store.lat, store.lon)) == store.id
    roads = RoadGraph.from_bytes(network.roads)
    times = TravelTimes.from_bytes(network.travel_times)
    first, second = seeded.stores
    assert roads.node_count > 1_000
    assert 60 < float(times.between(first.lat, first.lon, second.lat, second.lon)) < 1_800


async def test_stock_is_shelved_by_temperature(
    database: Database, redis: Redis, seeded: SeedResult
) -> None:
    """Sound products stand in bins of their temperature; what the file says is out, is out."""
    store_id = seeded.stores[0].id
    async with database.begin() as conn:
        rows = await conn.execute(
            select(stock.c.sku_id, stock.c.on_hand, bins.c.temperature)
            .join(bins, (bins.c.store_id == stock.c.store_id) & (bins.c.code == stock.c.bin))
            .where(stock.c.store_id == store_id)
        )
        shelves = {row.sku_id: (row.temperature, row.on_hand) for row in rows}
        in_lots = await conn.execute(
            select(lots.c.sku_id, func.sum(lots.c.on_hand).label("units"))
            .where(lots.c.store_id == store_id)
            .group_by(lots.c.sku_id)
        )
        units = {row.sku_id: row.units for row in in_lots}
    named = {key.rpartition("-")[2]: sku for key, sku in seeded.products.sku_ids.items()}
    assert {key: shelves[sku][0] for key, sku in named.items()} == {
        "1": "chilled", "2": "ambient", "3": "frozen",
    }  # fmt: skip
    assert shelves[named["3"]][1] == 0
    assert {sku: count for sku, (_, count) in shelves.items() if count} == units
    live = await availability_redis.read(redis, store_id, list(shelves))
    assert live == {sku: count for sku, (_, count) in shelves.items()}


async def test_a_second_seed_changes_nothing(
    services: Services, database: Database, seeded: SeedResult, catalogue: Path, name: str
) -> None:
    """The same places and people, no new product, no new unit, and no password told again."""

    async def counts() -> list[int]:
        tables = (users, riders, stock, lots, road_networks)
        async with database.begin() as conn:
            found = [
                (await conn.execute(select(func.count()).select_from(table))).scalar_one()
                for table in tables
            ]
            return [*found, (await conn.execute(select(func.sum(stock.c.on_hand)))).scalar_one()]

    before = await counts()
    again = await _seed(services, catalogue, name)
    assert await counts() == before
    assert (again.city, again.stores) == (seeded.city, seeded.stores)
    assert (again.products.inserted, again.products.updated) == (0, 0)
    assert [one.log_in.email for one in again.people] == [one.log_in.email for one in seeded.people]
    assert {one.log_in.password for one in again.people} == {None}
    assert [one.rider_id for one in again.people] == [one.rider_id for one in seeded.people]


async def test_log_ins_work_and_are_scoped(database: Database, seeded: SeedResult) -> None:
    """A told password fits the stored hash; staff are bound to their store or city."""
    passwords = Passwords(Argon2Settings())
    (manager,) = seeded.of_role(Role.STORE_MANAGER, seeded.stores[1].id)
    (rider, *_) = seeded.of_role(Role.RIDER)
    async with database.begin() as conn:
        rows = {
            row.id: row
            for row in await conn.execute(
                select(users).where(users.c.id.in_([manager.log_in.user_id, rider.log_in.user_id]))
            )
        }
        rider_row = (
            await conn.execute(select(riders).where(riders.c.user_id == rider.log_in.user_id))
        ).one()
    row = rows[manager.log_in.user_id]
    assert manager.log_in.password is not None
    assert await passwords.matches(row.password_hash, manager.log_in.password)
    assert (row.store_ids, row.one_time_password) == ([seeded.stores[1].id], True)
    assert rows[rider.log_in.user_id].city_ids == [seeded.city.id]
    assert (rider_row.id, rider_row.city_id) == (rider.rider_id, seeded.city.id)
    assert len(seeded.of_role(Role.RIDER)) == 3


async def test_the_json_names_places_log_ins_and_bad_rows(seeded: SeedResult) -> None:
    """Scripts find stores with places, log-ins by role, and rejected rows by line."""
    shown = json.loads(json.dumps(seeded.as_json()))
    assert [store["id"] for store in shown["stores"]] == [store.id for store in seeded.stores]
    assert set(shown["stores"][0]["log_ins"]) == {"manager", "picker"}
    assert set(shown["stores"][0]["log_ins"]["manager"]) == {"user_id", "email", "password"}
    assert len(shown["riders"]) == 3
    assert shown["riders"][0]["rider_id"].startswith("rdr_")
    assert len(shown["pickers"]) == 2
    assert shown["import"]["rows"] == 4
    assert shown["import"]["rejected_by_reason"] == {"zero_price": 1}
    assert [(row["line"], row["reason"]) for row in shown["rejected"]] == [(5, "zero_price")]
    assert shown["ops"]["email"].startswith("ops.")


async def test_the_printed_report_can_be_copied_from(seeded: SeedResult) -> None:
    """On a narrow screen e-mails and passwords are whole; a file's brackets are no markup."""
    screen = io.StringIO()
    console = Console(file=screen, width=40)
    print_result(seeded, console)
    text = screen.getvalue()
    for one in seeded.people:
        if one.log_in.password is not None:
            assert f"{one.log_in.password}" in text
            assert one.log_in.email in text
    assert "line 5: zero_price" in text
    with terminal_progress(console) as on_progress:
        on_progress("stock", 1, 2)
    assert screen.getvalue() == text, "nothing moves where there is no terminal"
