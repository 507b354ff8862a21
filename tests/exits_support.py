"""Substitutes and claims for tests: the steps of a picker, a customer and support on a ``Shop``."""

from __future__ import annotations

from typing import Any

from orders import claims, picking, substitutions
from orders.claim_rules import ClaimKind
from orders.claims import Claim
from orders.model import PaymentMethod, Substitution
from orders.settings import ClaimSettings, SubstitutionSettings
from server.verify import verify_database
from stores import picking as pick_tasks
from tests.cities import Product
from tests.order_support import Shop

ASKED = SubstitutionSettings()
NOBODY_DECIDES = ClaimSettings(auto_approve_minor=0)


async def picking_order(
    shop: Shop,
    wish: Substitution,
    lines: dict[str, int],
    *,
    method: PaymentMethod = PaymentMethod.CARD,
    use_wallet: bool = False,
) -> str:
    """An order that a picker holds, of a customer who wants this in place of what is missing."""
    order_id = await shop.place_order(
        lines, substitution=wish, method=method, use_wallet=use_wallet
    )
    await shop.drive(order_id, "picking")
    return order_id


async def task_of(shop: Shop, order_id: str) -> dict[str, Any]:
    task_id = await shop.task_id(order_id)
    async with shop.database.begin() as conn:
        return await pick_tasks.read(conn, task_id)


async def line_of(shop: Shop, order_id: str, sku_id: str) -> dict[str, Any]:
    task = await task_of(shop, order_id)
    return next(line for line in task["lines"] if line["sku_id"] == sku_id)


async def offer(
    shop: Shop,
    order_id: str,
    instead_of: Product,
    substitute: Product,
    quantity: int = 1,
    *,
    in_hand: bool = False,
    settings: SubstitutionSettings = ASKED,
) -> str:
    """The picker offers a substitute; its id."""
    line = await line_of(shop, order_id, instead_of.sku_id)
    barcode = None
    if in_hand:
        rows = await shop.rows(
            "SELECT barcode FROM products WHERE sku_id = :sku", sku=substitute.sku_id
        )
        barcode = rows[0]["barcode"]
    async with shop.database.begin() as conn:
        task = await picking.substitute(
            conn, settings, await shop.task_id(order_id), shop.picker_id, line["line_id"],
            substitute.sku_id, quantity, barcode,
        )  # fmt: skip
    ids = [s["id"] for each in task["lines"] for s in each["substitutes"]]
    return str(max(ids))


async def answer(shop: Shop, order_id: str, substitution_id: str, *, approved: bool) -> None:
    async with shop.database.begin() as conn:
        await substitutions.decide(
            conn, order_id, substitution_id, shop.customer_id, approved=approved
        )


async def fetch(shop: Shop, order_id: str, instead_of: Product, quantity: int = 1) -> None:
    """The picker scans units of the approved substitute."""
    line = await line_of(shop, order_id, instead_of.sku_id)
    substitute = next(s for s in line["substitutes"] if s["status"] == "approved")
    async with shop.database.begin() as conn:
        await picking.scan(
            conn, await shop.task_id(order_id), shop.picker_id, line["line_id"],
            substitute["barcode"], substitute["bin"], quantity,
        )  # fmt: skip


async def report_short(shop: Shop, order_id: str, product: Product, missing: int) -> None:
    line = await line_of(shop, order_id, product.sku_id)
    async with shop.database.begin() as conn:
        await picking.short(
            conn, await shop.task_id(order_id), shop.picker_id, line["line_id"], missing,
            "not_found",
        )  # fmt: skip


async def finish(shop: Shop, order_id: str) -> None:
    """Scan what is open, pack, deliver and settle."""
    await shop.pick(order_id, {})
    await shop.offer(order_id)
    await shop.accept(order_id)
    await shop.arrive(order_id, 1)
    await shop.hand_over(order_id)
    await shop.arrive(order_id, 2)
    await shop.deliver(order_id)
    await shop.settle_all()


async def substitution(shop: Shop, substitution_id: str) -> dict[str, Any]:
    rows = await shop.rows("SELECT * FROM order_substitutions WHERE id = :id", id=substitution_id)
    return rows[0]


async def line_row(shop: Shop, order_id: str, n: int = 1) -> dict[str, Any]:
    rows = await shop.rows(
        "SELECT * FROM order_lines WHERE order_id = :id AND n = :n", id=order_id, n=n
    )
    return rows[0]


async def claim(
    shop: Shop,
    order_id: str,
    items: dict[str, int] | None = None,
    kind: ClaimKind = ClaimKind.MISSING,
    *,
    photo: str | None = None,
    settings: ClaimSettings = NOBODY_DECIDES,
) -> str:
    """The customer claims units of lines (or substitutions); the claim's id."""
    said = Claim(kind, tuple((items or {}).items()), None, photo)
    async with shop.database.begin() as conn:
        return await claims.make(conn, settings, order_id, shop.customer_id, said)


async def claim_row(shop: Shop, claim_id: str) -> dict[str, Any]:
    return (await shop.rows("SELECT * FROM order_claims WHERE id = :id", id=claim_id))[0]


async def in_order(shop: Shop) -> None:
    """Nothing is wrong with any order, unit, posting or claim."""
    await shop.settle_all()
    await shop.relay()
    checks = await verify_database(shop.database, shop.gateway, patience_s=30.0)
    assert {c.name: c.examples for c in checks if c.broken_rows} == {}
