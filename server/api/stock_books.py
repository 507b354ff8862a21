"""A store's stock books: deliveries by note, waste, lots, movements, what is low, and its rules."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from server.api.access import ServicesDep
from server.api.paging import LIMIT_DEFAULT, PageLimit, PagingDep
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.stock import UNITS_MAX, StockKeeper, count_body, own_store, refresh
from server.api.writes import Reply, write
from stores import movements, receiving, shelf_life, waste, watch
from stores.receiving import ReceiptLine
from stores.stock import MovementKind
from stores.waste import WasteReason

router = APIRouter(prefix="/v1/ops/stores/{store_id}", tags=["stock"])

LINES_MAX = 200


class DeliveryLineIn(RequestModel):
    """Without ``expires_on`` it keeps; ``bin`` only where a product without units gets another."""

    sku_id: IdText
    quantity: int = Field(ge=1, le=UNITS_MAX)
    expires_on: date | None = None
    bin: IdText | None = None


class DeliveryIn(RequestModel):
    """A supplier's delivery note, which is booked once."""

    supplier: ShortText = Field(min_length=1)
    supplier_reference: ShortText = Field(min_length=1)
    lines: list[DeliveryLineIn] = Field(min_length=1, max_length=LINES_MAX)


class WasteIn(RequestModel):
    """Without ``lot_id``: of the lots that expire first."""

    sku_id: IdText
    quantity: int = Field(ge=1, le=UNITS_MAX)
    reason: WasteReason
    lot_id: IdText | None = None


class StoreRulesIn(RequestModel):
    """What holds where a product says nothing else; left out: as it is."""

    low_stock_at: int | None = Field(default=None, ge=0, le=UNITS_MAX)
    expiry_block_days: int | None = Field(default=None, ge=0, le=365)


class ProductRulesIn(RequestModel):
    """A product's own rules; null: the store's."""

    low_stock_at: int | None = Field(ge=0, le=UNITS_MAX)
    expiry_block_days: int | None = Field(ge=0, le=365)


class LotOut(BaseModel):
    """``blocked``: too near its date to be sold."""

    id: str
    sku_id: str
    on_hand: int
    expires_on: date | None
    blocked: bool


@router.post("/stock/deliveries", status_code=201)
async def receive_delivery(
    store_id: IdText, body: DeliveryIn, actor: StockKeeper, services: ServicesDep, request: Request
) -> Response:
    """Book a delivery note; each line becomes a lot."""
    await own_store(services.database, actor, store_id)
    lines = [ReceiptLine(**line.model_dump()) for line in body.lines]

    async def use_case(conn: AsyncConnection) -> Reply:
        receipt = await receiving.receive_delivery(
            conn, store_id, body.supplier, body.supplier_reference, lines, actor.user_id
        )
        counts = [count_body(store_id, sku, count) for sku, count in receipt.counts.items()]
        return Reply(201, {"id": receipt.id, "lines": counts})

    response = await write(request, services, actor, use_case)
    await refresh(services, store_id, {line.sku_id for line in lines})
    return response


@router.post("/stock/waste")
async def waste_stock(
    store_id: IdText, body: WasteIn, actor: StockKeeper, services: ServicesDep, request: Request
) -> Response:
    """Throw units away; `stock_reserved` if orders were promised them."""
    await own_store(services.database, actor, store_id)

    async def use_case(conn: AsyncConnection) -> Reply:
        count, taken = await waste.waste(
            conn, store_id, body.sku_id, body.quantity, body.reason, actor.user_id, body.lot_id
        )
        lots = [asdict(lot) for lot in taken]
        return Reply(200, {**count_body(store_id, body.sku_id, count), "lots": lots})

    response = await write(request, services, actor, use_case)
    await refresh(services, store_id, [body.sku_id])
    return response


@router.get("/stock/lots")
async def list_lots(
    store_id: IdText,
    actor: StockKeeper,
    services: ServicesDep,
    sku_id: IdText | None = None,
    expires_before: date | None = None,
    blocked: bool | None = None,
    limit: PageLimit = LIMIT_DEFAULT,
) -> dict[str, list[LotOut]]:
    """Lots with units in them, what expires first first."""
    await own_store(services.database, actor, store_id)
    async with services.database.begin() as conn:
        rows: list[dict[str, Any]] = await waste.list_lots(
            conn, store_id, sku_id=sku_id, expires_before=expires_before, blocked=blocked,
            limit=limit,
        )  # fmt: skip
    return {"items": [LotOut(**{k: row[k] for k in LotOut.model_fields}) for row in rows]}


@router.get("/stock/movements")
async def list_movements(
    store_id: IdText,
    actor: StockKeeper,
    services: ServicesDep,
    page: PagingDep,
    sku_id: IdText | None = None,
    kind: Annotated[list[MovementKind] | None, Query()] = None,
    order_id: IdText | None = None,
    reference: IdText | None = None,
    lot_id: IdText | None = None,
) -> dict[str, object]:
    """Everything that has moved stock, the latest first."""
    await own_store(services.database, actor, store_id)
    key = page.key(int)
    async with services.database.begin() as conn:
        rows = await movements.list_movements(
            conn, store_id, sku_id=sku_id, kinds=kind, order_id=order_id, reference=reference,
            lot_id=lot_id, before=None if key is None else int(key[0]), limit=page.fetch,
        )  # fmt: skip
    return page.body(rows, dict)


@router.get("/stock/low")
async def list_low_stock(
    store_id: IdText,
    actor: StockKeeper,
    services: ServicesDep,
    page: PagingDep,
) -> dict[str, object]:
    """Products at or under their threshold, which the store was told of."""
    await own_store(services.database, actor, store_id)
    async with services.database.begin() as conn:
        rows = await watch.list_low(conn, store_id, page.after, page.fetch)
    return page.body(rows, dict, lambda row: (row["sku_id"],))


@router.post("/stock/rules")
async def set_store_rules(
    store_id: IdText,
    body: StoreRulesIn,
    actor: StockKeeper,
    services: ServicesDep,
    request: Request,
) -> Response:
    """When a product of this store counts as low, and how long before its date it is sold."""
    await own_store(services.database, actor, store_id)

    async def use_case(conn: AsyncConnection) -> Reply:
        await shelf_life.set_store_rules(conn, store_id, **body.model_dump())
        return Reply(200, await shelf_life.store_rules(conn, store_id))

    return await write(request, services, actor, use_case)


@router.post("/stock/{sku_id}/rules")
async def set_product_rules(
    store_id: IdText,
    sku_id: IdText,
    body: ProductRulesIn,
    actor: StockKeeper,
    services: ServicesDep,
    request: Request,
) -> Response:
    """A product's own rules in this store."""
    await own_store(services.database, actor, store_id)

    async def use_case(conn: AsyncConnection) -> Reply:
        await shelf_life.set_product_rules(conn, store_id, sku_id, **body.model_dump())
        return Reply(200, {"store_id": store_id, "sku_id": sku_id, **body.model_dump()})

    response = await write(request, services, actor, use_case)
    await refresh(services, store_id, [sku_id])
    return response
