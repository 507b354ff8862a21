"""Fill an empty system with a city: streets, stores, products, stock, staff and riders.

Every step looks for what is there already, so a second seed changes nothing and tells the same
places; passwords are known only to the seed that created them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from catalog import repository as catalog
from catalog.csv_import import ImportReport, read_catalogue
from catalog.generated import generated_catalogue
from catalog.model import ProductDraft, slug
from catalog.repository import ImportCounts, Price
from geo.osm import read_roads
from geo.procedural import District, procedural_city
from geo.roads import RoadGraph
from geo.travel import TravelTimes
from kit.ids import new_id
from kit.redis import RedisError
from kit.sql import Query
from riders.tables import road_networks
from server.seed_people import staff_of
from server.seed_places import StorePlace, place_stores, zones_of
from server.seed_report import Progress, SeedResult
from server.seed_staff import hire
from server.streets import OSM_SOURCE
from server.wiring import Services
from stores import availability_redis
from stores import repository as stores_repository
from stores.layout import ShelvedProduct
from stores.repository import City, Delivery, Store
from stores.service import carry

CURRENCY: Final = "INR"
ACTOR: Final = "seed"
# What a night's delivery adds to the units that the source states.
_DELIVERY_UNITS: Final = (24, 72)
_SHARE_LOW: Final = 0.03
_SHARE_OUT: Final = 0.01
_LOW_UNITS: Final = 3
# One product in six costs up to 6 % more or less than in the first store.
_SHARE_REPRICED: Final = 1 / 6
_REPRICED_BY: Final = 0.06

_CITY_NAMES: Final = (
    "Amberford", "Brindavale", "Cedarmouth", "Dunhaven", "Elmsworth", "Fernbridge", "Gullport",
    "Hazelmere", "Ivoryton", "Juniper Bay", "Kestrel Falls", "Larkspur",
)  # fmt: skip

# Until autovacuum comes by, the planner would take thousands of new rows for a few dozen.
_ANALYZE = Query(
    "seed.analyze", "ANALYZE products, categories, product_categories, prices, bins, stock, lots"
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A city before it is in the database."""

    name: str
    source: str
    roads: RoadGraph
    districts: tuple[District, ...]


def _no_progress(_stage: str, _done: int, _total: int) -> None:
    """Nobody watches."""


async def seed(
    services: Services,
    *,
    catalogue: Path | None = None,
    osm: Path | None = None,
    city_seed: int = 7,
    city_name: str | None = None,
    stores: int = 4,
    riders: int = 48,
    pickers_per_store: int = 4,
    on_progress: Progress = _no_progress,
) -> SeedResult:
    """A city with stores, stock and people; see ``SeedResult`` for what is returned.

    ``catalogue``: a CSV file (catalog/csv_import.py), else the generated products.  ``osm``: an
    OpenStreetMap extract, else a city made from ``city_seed``.  A city is known by its name
    (``city_name``, else from the file or the seed): one that exists keeps its stores and zones,
    whatever ``stores`` says.  ``on_progress(stage, done, total)`` may be called from a thread.

    Raises ValueError for files that cannot be used (``UnknownFormat`` is one), OSError for files
    that cannot be read, and ``BarcodeTaken``.
    """
    drafts, report = await asyncio.to_thread(_read_products, catalogue, city_seed, on_progress)
    name = city_name or _city_name(osm, city_seed)
    city, city_stores = await _city(services, name, osm, city_seed, stores, on_progress)
    async with services.database.begin() as conn:
        counts = await catalog.import_products(conn, drafts)
    today = services.clock.now().date()
    for n, store in enumerate(city_stores):
        on_progress("stock", n, len(city_stores))
        async with services.database.begin() as conn:
            await _stock(conn, store, n, drafts, counts, city, city_seed, today)
    on_progress("stock", len(city_stores), len(city_stores))
    await _show_stock(services, city_stores)
    store_ids = [store.id for store in city_stores]
    people = staff_of(
        city.id,
        slug(city.name) or city.id.lower(),
        store_ids,
        riders=riders,
        pickers_per_store=pickers_per_store,
        seed=city_seed,
    )
    async with services.database.begin() as conn:
        seeded = await hire(conn, people, on_progress)
        await _ANALYZE.run(conn)
    return SeedResult(city, tuple(city_stores), tuple(seeded), counts, report)


def _read_products(
    catalogue: Path | None, city_seed: int, on_progress: Progress
) -> tuple[Sequence[ProductDraft], ImportReport | None]:
    if catalogue is None:
        return generated_catalogue(city_seed), None
    result = read_catalogue(
        catalogue, on_progress=lambda done, total: on_progress("catalogue", done, total)
    )
    return result.products, result.report


def _city_name(osm: Path | None, city_seed: int) -> str:
    """``porto-alegre.osm.pbf`` → ``Porto Alegre``."""
    if osm is None:
        name = _CITY_NAMES[city_seed % len(_CITY_NAMES)]
        # Every seed has a city of its own.
        turn = city_seed // len(_CITY_NAMES)
        return f"{name} {turn + 1}" if turn else name
    return " ".join(osm.name.partition(".")[0].replace("_", "-").split("-")).title() or "City"


async def _city(
    services: Services,
    name: str,
    osm: Path | None,
    city_seed: int,
    store_count: int,
    on_progress: Progress,
) -> tuple[City, list[Store]]:
    """The city of that name with its stores, built if it is not there."""
    async with services.database.begin() as conn:
        city = await stores_repository.find_city_named(conn, name)
        if city is not None:
            return city, await stores_repository.list_stores(conn, city.id)
    on_progress("streets", 0, 3)
    plan = await asyncio.to_thread(_plan_city, name, osm, city_seed)
    places = await asyncio.to_thread(place_stores, plan.roads, store_count, plan.districts)
    on_progress("streets", 1, 3)
    times = await asyncio.to_thread(TravelTimes.compute, plan.roads)
    on_progress("streets", 2, 3)
    zones = await asyncio.to_thread(zones_of, times, places)
    city = City(
        new_id("cty"),
        name,
        CURRENCY,
        sum(place.point.lat for place in places) / len(places),
        sum(place.point.lon for place in places) / len(places),
    )
    found = _name_stores(city, places)
    network = {
        "city_id": city.id,
        "source": plan.source,
        "roads": await asyncio.to_thread(plan.roads.to_bytes),
        "travel_times": await asyncio.to_thread(times.to_bytes),
        "built_at": services.clock.now(),
    }
    async with services.database.begin() as conn:
        await stores_repository.add_city(conn, city)
        for store, polygon in zip(found, zones, strict=True):
            await stores_repository.add_store(conn, store, polygon)
        await conn.execute(insert(road_networks).values(network))
    on_progress("streets", 3, 3)
    return city, found


def _plan_city(name: str, osm: Path | None, city_seed: int) -> _Plan:
    if osm is not None:
        return _Plan(name, f"{OSM_SOURCE}{osm.name}", read_roads(osm), ())
    city = procedural_city(city_seed)
    return _Plan(name, f"procedural:{city_seed}", city.roads, city.districts)


def _name_stores(city: City, places: Sequence[StorePlace]) -> list[Store]:
    """Stores named after their street, the number added where there is none or two share it."""
    streets = [place.street for place in places]
    found: list[Store] = []
    ids = sorted(new_id("sto") for _ in places)
    for n, (store_id, place) in enumerate(zip(ids, places, strict=True), start=1):
        unique = place.street is not None and streets.count(place.street) == 1
        name = f"{place.street}" if unique else f"{place.street or city.name} {n}"
        found.append(Store(store_id, city.id, name, place.point.lat, place.point.lon, True, None))
    return found


async def _stock(
    conn: AsyncConnection,
    store: Store,
    n: int,
    drafts: Sequence[ProductDraft],
    counts: ImportCounts,
    city: City,
    city_seed: int,
    today: date,
) -> None:
    """Prices, bins and the first delivery of store ``n``; only new products get stock."""
    prices: list[Price] = []
    deliveries: list[Delivery] = []
    shelved: list[ShelvedProduct] = []
    for draft in drafts:
        sku_id = counts.sku_ids[draft.external_id]
        rng = random.Random(f"{city_seed}:{n}:{draft.external_id}")
        price = draft.price_minor if n == 0 else _local_price(draft, rng)
        prices.append(Price(sku_id, price, draft.list_price_minor))
        shelved.append(ShelvedProduct(sku_id, draft.temperature.value, draft.categories[0]))
        deliveries += _deliveries(draft, sku_id, rng, today)
    await catalog.set_prices(conn, store.id, city.currency, prices)
    new = set(await carry(conn, store.id, shelved))
    await stores_repository.receive(
        conn, store.id, [d for d in deliveries if d.sku_id in new], ACTOR
    )


def _local_price(draft: ProductDraft, rng: random.Random) -> int:
    """The catalogue's price, or one near it in whole currency units, never above the list price."""
    if rng.random() >= _SHARE_REPRICED:
        return draft.price_minor
    factor = 1 + _REPRICED_BY * (2 * rng.random() - 1)
    near = round(draft.price_minor * factor / 100) * 100
    return max(1, min(near, draft.list_price_minor)) if near else draft.price_minor


def _deliveries(
    draft: ProductDraft, sku_id: str, rng: random.Random, today: date
) -> list[Delivery]:
    """What the source states as an older lot, and a night's delivery; nothing if it states none."""
    chance = rng.random()
    if draft.initial_quantity == 0 or chance < _SHARE_OUT:
        return []
    life_days = draft.shelf_life_days
    fresh_until = None if life_days is None else today + timedelta(days=life_days)
    if chance < _SHARE_OUT + _SHARE_LOW:
        return [Delivery(sku_id, 1 + int(rng.random() * _LOW_UNITS), fresh_until)]
    least, most = _DELIVERY_UNITS
    fresh = Delivery(sku_id, least + int(rng.random() * (most - least + 1)), fresh_until)
    if draft.initial_quantity is None:
        return [fresh]
    older_until = None if life_days is None else today + timedelta(days=(life_days + 1) // 2)
    return [Delivery(sku_id, draft.initial_quantity, older_until), fresh]


async def _show_stock(services: Services, city_stores: Sequence[Store]) -> None:
    """Fill the live layer; without Redis the listing reads Postgres and a worker fills it later."""
    try:
        for store in city_stores:
            async with services.database.begin() as conn:
                await availability_redis.rebuild(conn, services.redis, store.id)
    except RedisError as error:
        _log.warning("availability_not_rebuilt", error=type(error).__name__)
