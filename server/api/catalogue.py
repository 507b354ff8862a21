"""Cities, stores and what they sell, for everybody."""

from __future__ import annotations

import gzip
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from catalog import service as catalog
from catalog.repository import Alternative
from catalog.service import ListedProduct
from geo.distances import Point
from kit.db import Database
from kit.errors import Invalid
from kit.money import Money
from server.api.access import PUBLIC, ServicesDep
from server.api.paging import PagingDep, encode_cursor
from server.api.schemas import IdText, MoneyOut, Page, ShortText
from server.streets import StreetsCache
from server.wiring import Services
from stores import repository as stores_repository
from stores import service as stores
from stores.repository import City
from stores.service import LiveAvailability, NearStore

router = APIRouter(prefix="/v1", tags=["catalogue"])

STREETS_MAX_AGE_S = 3_600

Search = Annotated[ShortText | None, Query(description="Words that name or brand must contain")]


class LocationOut(BaseModel):
    """WGS 84 degrees."""

    lat: float
    lon: float


class CityOut(BaseModel):
    id: str
    name: str
    centre: LocationOut
    currency: str


class StoreOut(BaseModel):
    """``distance_m`` in a straight line from the point that was asked about, else null."""

    id: str
    city_id: str
    name: str
    location: LocationOut
    open: bool
    distance_m: int | None = None


class CategoryOut(BaseModel):
    """``products``: how many this store sells in it."""

    slug: str
    title: str
    products: int


class AlternativeOut(BaseModel):
    sku_id: str
    name: str
    brand: str | None
    unit: str
    price: MoneyOut
    list_price: MoneyOut
    available: int
    image_url: str


class ProductOut(BaseModel):
    """``available``: units that can be promised now, capped.  ``alternatives`` when there are 0."""

    sku_id: str
    name: str
    brand: str | None
    categories: list[str]
    unit: str
    weight_g: int
    temperature: str
    price: MoneyOut
    list_price: MoneyOut
    available: int
    image_url: str
    alternatives: list[AlternativeOut]


_streets_cache = StreetsCache()


def streets_cache() -> StreetsCache:
    """One cache a process."""
    return _streets_cache


@router.get("/cities", dependencies=[PUBLIC])
async def list_cities(services: ServicesDep) -> Page[CityOut]:
    """The cities that are served."""
    async with services.database.begin() as conn:
        found = await stores_repository.list_cities(conn)
    return Page(items=[_city_out(city) for city in found])


@router.get(
    "/cities/{city_id}/streets",
    dependencies=[PUBLIC],
    response_class=Response,
    responses={
        200: {"content": {"application/json": {}}, "description": "Compact streets"},
        304: {"description": "The streets are those of the If-None-Match header"},
    },
)
async def get_streets(
    city_id: IdText,
    request: Request,
    services: ServicesDep,
    cache: Annotated[StreetsCache, Depends(streets_cache)],
) -> Response:
    """The street network of a city, for maps and for riding on it (form: `geo/road_json.py`)."""
    streets = await cache.get(services.database, city_id)
    headers = {
        "ETag": streets.etag,
        "Cache-Control": f"public, max-age={STREETS_MAX_AGE_S}",
        "Vary": "Accept-Encoding",
    }
    known = [tag.strip().removeprefix("W/") for tag in _header(request, "if-none-match").split(",")]
    if streets.etag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    body = streets.compressed
    if "gzip" in _header(request, "accept-encoding"):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return Response(body, headers=headers, media_type="application/json")


@router.get("/stores", dependencies=[PUBLIC])
async def list_stores(
    services: ServicesDep,
    lat: Annotated[float | None, Query(ge=-90, le=90)] = None,
    lon: Annotated[float | None, Query(ge=-180, le=180)] = None,
) -> Page[StoreOut]:
    """All stores, the nearest to a point first if one is given."""
    if (lat is None) != (lon is None):
        raise Invalid("Give both lat and lon, or neither.")
    point = None if lat is None or lon is None else Point(lat, lon)
    async with services.database.begin() as conn:
        found = await stores.stores_near(conn, point)
    return Page(items=[store_out(near) for near in found])


@router.get("/stores/{store_id}/products", dependencies=[PUBLIC])
async def list_products(
    store_id: IdText,
    services: ServicesDep,
    asked: PagingDep,
    q: Search = None,
    category: Annotated[ShortText | None, Query(description="Slug or title")] = None,
) -> Page[ProductOut]:
    """What a store sells, with live availability, in the order of its catalogue."""
    await _check_store(services.database, store_id)
    page = await catalog.list_products(
        services.database,
        live_availability(services),
        store_id,
        q=q,
        category=category,
        limit=asked.limit,
        cursor=asked.after,
    )
    shown_max = services.settings.stores.shown_units_max
    next_cursor = None if page.next_cursor is None else encode_cursor(page.next_cursor)
    items = [_product_out(listed, shown_max) for listed in page.items]
    return Page(items=items, next_cursor=next_cursor)


@router.get("/stores/{store_id}/products/{sku_id}", dependencies=[PUBLIC])
async def get_product(store_id: IdText, sku_id: IdText, services: ServicesDep) -> ProductOut:
    """One product as a store sells it now."""
    await _check_store(services.database, store_id)
    listed = await catalog.get_product(
        services.database, live_availability(services), store_id, sku_id
    )
    return _product_out(listed, services.settings.stores.shown_units_max)


@router.get("/stores/{store_id}/categories", dependencies=[PUBLIC])
async def list_categories(store_id: IdText, services: ServicesDep) -> Page[CategoryOut]:
    """The categories of a store, by title."""
    await _check_store(services.database, store_id)
    found = await catalog.list_categories(services.database, store_id)
    items = [CategoryOut(slug=c.slug, title=c.title, products=c.products) for c in found]
    return Page(items=items)


def live_availability(services: Services) -> LiveAvailability:
    """What the stores can still promise, as this process reads it."""
    deadline_s = services.settings.stores.availability_deadline_s
    return LiveAvailability(services.database, services.redis, deadline_s)


async def _check_store(database: Database, store_id: str) -> None:
    async with database.begin() as conn:
        await stores.get_store(conn, store_id)


def _header(request: Request, name: str) -> str:
    value: str = request.headers.get(name, "")
    return value


def _city_out(city: City) -> CityOut:
    return CityOut(
        id=city.id,
        name=city.name,
        centre=LocationOut(lat=city.lat, lon=city.lon),
        currency=city.currency,
    )


def store_out(near: NearStore) -> StoreOut:
    store = near.store
    return StoreOut(
        id=store.id,
        city_id=store.city_id,
        name=store.name,
        location=LocationOut(lat=store.lat, lon=store.lon),
        open=store.open,
        distance_m=None if near.distance_m is None else round(near.distance_m),
    )


def money_out(amount: Money) -> MoneyOut:
    return MoneyOut(amount_minor=amount.amount_minor, currency=amount.currency)


def _product_out(listed: ListedProduct, shown_max: int) -> ProductOut:
    product = listed.product
    return ProductOut(
        sku_id=product.sku_id,
        name=product.name,
        brand=product.brand,
        categories=list(product.categories),
        unit=product.unit,
        weight_g=product.weight_g,
        temperature=product.temperature,
        price=money_out(product.price),
        list_price=money_out(product.list_price),
        available=min(listed.available, shown_max),
        image_url=product.image_url,
        alternatives=[_alternative_out(other, shown_max) for other in listed.alternatives],
    )


def _alternative_out(other: Alternative, shown_max: int) -> AlternativeOut:
    return AlternativeOut(
        sku_id=other.sku_id,
        name=other.name,
        brand=other.brand,
        unit=other.unit,
        price=money_out(other.price),
        list_price=money_out(other.list_price),
        available=min(other.available, shown_max),
        image_url=other.image_url,
    )
