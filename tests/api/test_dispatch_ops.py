"""The hand on the wheel and riders' answers over HTTP: roles, scopes, idempotency, audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text

from identity.model import Actor, Role
from kit.db import Database
from kit.ids import new_id
from orders import offers
from riders.locations_redis import RedisLocations
from riders.model import DeclineReason
from server.app import create_app
from server.territory import TerritoryCache
from server.tracking import Tracking
from tests.dispatch_support import riders_of
from tests.http_support import client_of, make_services
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


@pytest.fixture
async def app(shop: Shop, redis: Redis) -> FastAPI:
    """The app with everything that these routes use; positions are in a Redis of the session."""
    locations, territory = RedisLocations(redis), TerritoryCache(shop.database)
    tracking = Tracking(shop.database, locations, shop.clock, territory)
    services = make_services(shop.database, redis)
    return create_app(
        replace(
            services, locations=locations, territory=territory, tracking=tracking, clock=shop.clock
        )
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


class Desk:
    """Somebody at a desk or with a phone: requests with their token."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, role: Role, **scope: Any) -> None:
        self.user_id = new_id("usr")
        actor = Actor(self.user_id, role, new_id("ses"), **scope)
        self._client = client
        self._headers = {"Authorization": f"Bearer {app.state.identity.tokens.access(actor)}"}

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = await self._client.get(path, headers=self._headers, params=params)
        assert answer.status_code == status, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def send(
        self, path: str, body: Any = None, *, key: str | None = None, method: str = "POST"
    ) -> httpx.Response:
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        return await self._client.request(method, path, headers=headers, json=body)

    async def post(
        self, path: str, body: Any = None, status: int = 200, *, method: str = "POST"
    ) -> Any:
        answer = await self.send(path, body, method=method)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def refused(self, path: str, body: Any, status: int, code: str) -> Any:
        problem = await self.post(path, body, status)
        assert problem["code"] == code, problem
        return problem


@pytest.fixture
def ops(app: FastAPI, client: httpx.AsyncClient, shop: Shop) -> Desk:
    return Desk(app, client, Role.OPS, city_ids=frozenset({shop.place.city.id}))


@pytest.fixture
def stranger(app: FastAPI, client: httpx.AsyncClient) -> Desk:
    """The ops of another city."""
    return Desk(app, client, Role.OPS, city_ids=frozenset({"cty_other"}))


@pytest.fixture
def rider(app: FastAPI, client: httpx.AsyncClient, shop: Shop) -> Desk:
    city_ids = frozenset({shop.place.city.id})
    return Desk(app, client, Role.RIDER, rider_id=shop.rider_id, city_ids=city_ids)


PAUSE = {"reason": "flooded", "minutes": 30}


async def test_ops_assign_and_are_told_what_they_override(
    ops: Desk, shop: Shop, client: httpx.AsyncClient
) -> None:
    """First the reasons, then by force; once for one key; with a row in the audit log."""
    order_id = await shop.order_at("packed")
    first, second = riders_of(shop)
    await shop.start_shift(first)
    path = f"/v1/ops/orders/{order_id}/assign"
    body = {"rider_id": first, "reason": "he stands next to me"}
    await ops.refused(path, {**body, "rider_id": second}, 409, "cannot_assign")
    problem = await ops.refused(path, body, 409, "would_override")
    # Nobody has seen a position of the rider.
    assert problem["overrides"] == ["rider_silent"]
    answers = [await ops.send(path, {**body, "force": True}, key="assign-1") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    done = answers[0].json()
    assert (done["overridden"], done["order"]["delivery_status"]) == (["rider_silent"], "assigned")
    log = (await ops.get("/v1/ops/audit", object_id=order_id))["items"]
    (row,) = log
    assert (row["action"], row["actor"], row["role"], row["reason"]) == (
        "order.assign", ops.user_id, "ops", "he stands next to me",
    )  # fmt: skip
    assert row["before"] == {"rider_id": None, "trip_id": None}
    assert row["after"]["rider_id"] == first
    assert row["request_id"] == answers[0].headers["X-Request-Id"]


async def test_every_deed_of_the_hand_is_in_the_audit_log(ops: Desk, shop: Shop) -> None:
    """Assign, unassign, pin, exclude, pause of zone, store and city, release, bring back."""
    order_id = await shop.order_at("packed")
    first, second = riders_of(shop)
    await shop.start_shift(first)
    await ops.post(
        f"/v1/ops/orders/{order_id}/assign",
        {"rider_id": first, "reason": "go", "force": True},
    )
    await ops.post(f"/v1/ops/orders/{order_id}/unassign", {"reason": "wait"})
    pin = await ops.post(f"/v1/ops/orders/{order_id}/pin", {**PAUSE, "rider_id": second}, 201)
    excluded = await ops.post(f"/v1/ops/riders/{first}/exclude", PAUSE, 201)
    zone_id = await a_zone(shop)
    paused = [
        await ops.post(f"/v1/ops/zones/{zone_id}/pause", PAUSE, 201),
        await ops.post(f"/v1/ops/stores/{shop.place.store.id}/pause-dispatch", PAUSE, 201),
        await ops.post(f"/v1/ops/cities/{shop.place.city.id}/pause", PAUSE, 201),
    ]
    listed = (await ops.get("/v1/ops/dispatch/controls"))["items"]
    ids = [each["id"] for each in (*reversed(paused), excluded, pin)]
    assert [each["id"] for each in listed] == ids
    assert {each["set_by"] for each in listed} == {ops.user_id}
    for control_id in ids:
        for _ in range(2):
            await ops.post(f"/v1/ops/dispatch/controls/{control_id}/release", {"reason": "over"})
    assert (await ops.get("/v1/ops/dispatch/controls"))["items"] == []
    over = (await ops.get("/v1/ops/dispatch/controls", over=True))["items"]
    assert {each["status"] for each in over} == {"over"}
    actions = [row["action"] for row in (await ops.get("/v1/ops/audit", limit=50))["items"]]
    assert actions == (
        ["control.release"] * 5
        + ["dispatch.pause"] * 3
        + ["rider.exclude", "order.pin", "order.unassign", "order.assign"]
    )
    released = (await ops.get("/v1/ops/audit", action="control."))["items"]
    assert {row["before"]["status"] for row in released} == {"active"}
    assert {row["after"]["status"] for row in released} == {"over"}


async def a_zone(shop: Shop) -> str:
    rows = await shop.rows("SELECT id FROM zones WHERE store_id = :id", id=shop.place.store.id)
    return str(rows[0]["id"])


async def test_held_orders_are_shown_with_the_reason(ops: Desk, shop: Shop) -> None:
    """What a pause or a pin keeps from being planned, and which; the zones that can be paused."""
    held, pinned = await shop.order_at("packed"), await shop.order_at("packed")
    city = f"/v1/ops/cities/{shop.place.city.id}"
    assert (await ops.get(f"{city}/held-orders"))["items"] == []
    control = await ops.post(
        f"/v1/ops/orders/{pinned}/pin", {**PAUSE, "rider_id": shop.rider_id}, 201
    )
    (item,) = (await ops.get(f"{city}/held-orders"))["items"]
    assert (item["order_id"], item["why"], item["control_id"]) == (pinned, "pinned", control["id"])
    (zone,) = (await ops.get(f"{city}/zones"))["items"]
    assert zone["store_id"] == shop.place.store.id
    await ops.post(f"/v1/ops/zones/{zone['id']}/pause", PAUSE, 201)
    items = (await ops.get(f"{city}/held-orders"))["items"]
    assert {(each["order_id"], each["why"]) for each in items} == {
        (held, "held"), (pinned, "held"),
    }  # fmt: skip
    assert {each["reason"] for each in items} == {"flooded"}


async def test_a_control_needs_a_reason_and_an_end(ops: Desk, shop: Shop) -> None:
    """Neither, both ends, too long, or the past: refused with a sentence."""
    path = f"/v1/ops/cities/{shop.place.city.id}/pause"
    for body in (
        {"minutes": 30},
        {"reason": " ", "minutes": 30},
        {"reason": "flooded"},
        {"reason": "flooded", "minutes": 30, "until": "2030-01-01T00:00:00Z"},
        {"reason": "flooded", "until": "2001-01-01T00:00:00Z"},
        {"reason": "flooded", "minutes": 60 * 24 * 8},
        {"reason": "flooded", "minutes": 30, "hold_dispatch": False},
    ):
        problem = await ops.post(path, body, 422)
        assert problem["code"] == "invalid", body
    assert (await ops.get("/v1/ops/dispatch/controls"))["items"] == []


async def test_what_belongs_to_another_city_is_not_there(
    ops: Desk, stranger: Desk, shop: Shop
) -> None:
    """404 for every object, and empty lists; admins see and release everything."""
    order_id = await shop.order_at("packed")
    control = await ops.post(f"/v1/ops/cities/{shop.place.city.id}/pause", PAUSE, 201)
    await shop.rows(
        "INSERT INTO dispatch_alerts (id, city_id, store_id, order_id, kind, detail, facts,"
        " raised_at) VALUES (:id, :city, :store, :order, 'needs_rider', 'x', '{}',"
        " darkstore_now()) RETURNING id", id=new_id("dal"), city=shop.place.city.id,
        store=shop.place.store.id, order=order_id,
    )  # fmt: skip
    (alert,) = (await ops.get("/v1/ops/dispatch/alerts"))["items"]
    reason = {"reason": "mine"}
    for path, body in (
        (f"/v1/ops/orders/{order_id}/assign", {"rider_id": shop.rider_id, **reason}),
        (f"/v1/ops/orders/{order_id}/unassign", reason),
        (f"/v1/ops/orders/{order_id}/bring-back", reason),
        (f"/v1/ops/orders/{order_id}/pin", {**PAUSE, "rider_id": shop.rider_id}),
        (f"/v1/ops/riders/{shop.rider_id}/exclude", PAUSE),
        (f"/v1/ops/cities/{shop.place.city.id}/pause", PAUSE),
        (f"/v1/ops/stores/{shop.place.store.id}/pause-dispatch", PAUSE),
        (f"/v1/ops/zones/{await a_zone(shop)}/pause", PAUSE),
        ("/v1/ops/zones/zon_nothing/pause", PAUSE),
        (f"/v1/ops/dispatch/controls/{control['id']}/release", {}),
        (f"/v1/ops/dispatch/alerts/{alert['id']}/resolve", reason),
    ):
        await stranger.refused(path, body, 404, "not_found")
    for path in ("zones", "held-orders", "riders/answers"):
        await stranger.get(f"/v1/ops/cities/{shop.place.city.id}/{path}", 404)
    for path in ("/v1/ops/audit", "/v1/ops/dispatch/controls", "/v1/ops/dispatch/alerts"):
        assert (await stranger.get(path))["items"] == []


async def test_an_admin_releases_what_anybody_set(
    app: FastAPI, client: httpx.AsyncClient, ops: Desk, shop: Shop
) -> None:
    """Nobody is locked out: neither by a pause of the city nor by an exclusion."""
    control = await ops.post(f"/v1/ops/cities/{shop.place.city.id}/pause", PAUSE, 201)
    admin = Desk(app, client, Role.ADMIN)
    done = await admin.post(f"/v1/ops/dispatch/controls/{control['id']}/release")
    assert (done["status"], done["released_by"]) == ("over", admin.user_id)


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.RIDER, Role.PICKER, Role.STORE_MANAGER])
async def test_others_have_no_hand_on_the_wheel(
    app: FastAPI, client: httpx.AsyncClient, shop: Shop, role: Role
) -> None:
    """403 for everybody who is neither ops nor admin."""
    someone = Desk(app, client, role, city_ids=frozenset({shop.place.city.id}))
    order_id = new_id("ord")
    for path in ("assign", "unassign", "pin", "bring-back"):
        answer = await someone.send(f"/v1/ops/orders/{order_id}/{path}", {})
        assert (answer.status_code, answer.json()["code"]) == (403, "denied"), path
    for path in ("/v1/ops/audit", "/v1/ops/dispatch/controls", "/v1/ops/dispatch/alerts"):
        answer = await someone.send(path, method="GET")
        assert answer.status_code == 403, path


async def test_an_alert_is_listed_and_closed(ops: Desk, shop: Shop) -> None:
    """With what it is about; closed ones are shown if asked for."""
    order_id = await shop.order_at("packed")
    for _ in range(shop.rider_settings.offers.failed_alert):
        await shop.offer(order_id)
        trip = await shop.trip(order_id)
        async with shop.database.begin() as conn:
            await conn.execute(
                text("UPDATE declines SET until = darkstore_now() WHERE order_id = :id"),
                {"id": order_id},
            )
        await decline_over(shop, trip.offer_id or "")
    (alert,) = (await ops.get("/v1/ops/dispatch/alerts"))["items"]
    assert (alert["kind"], alert["order_id"], alert["status"]) == ("needs_rider", order_id, "open")
    assert alert["facts"]["declined"] == shop.rider_settings.offers.failed_alert
    path = f"/v1/ops/dispatch/alerts/{alert['id']}/resolve"
    done = await ops.post(path, {"reason": "I bring it myself"})
    assert (done["status"], done["resolved_by"]) == ("resolved", ops.user_id)
    assert (await ops.get("/v1/ops/dispatch/alerts"))["items"] == []
    assert len((await ops.get("/v1/ops/dispatch/alerts", resolved=True))["items"]) == 1
    (row,) = (await ops.get("/v1/ops/audit", action="alert.resolve"))["items"]
    assert row["object"] == {"kind": "alert", "id": alert["id"]}


async def decline_over(shop: Shop, offer_id: str) -> None:
    async with shop.database.begin() as conn:
        await offers.decline(
            conn, shop.rider_settings.offers, shop.rider_id, offer_id, DeclineReason.UNSAFE_AREA
        )


# Riders.


async def test_riders_decline_take_breaks_and_are_back(rider: Desk, shop: Shop) -> None:
    """The reason is one of the list; an older app's words count as `other`, and are kept."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    path = f"/v1/offers/{trip.offer_id}/decline"
    await rider.refused(path, {"reason": 7}, 422, "invalid")
    answer = await rider.post(path, {"reason": "my shoe is open"})
    assert answer["availability"]["status"] == "available"
    rows = await shop.rows("SELECT reason, note FROM offers WHERE id = :id", id=trip.offer_id)
    assert rows == [{"reason": "other", "note": "my shoe is open"}]
    await shop.offer(order_id)
    trip = await shop.trip(order_id)
    answer = await rider.post(f"/v1/offers/{trip.offer_id}/decline", {"reason": "break"})
    assert answer["availability"]["reason"] == "break"
    me = "/v1/riders/me/availability"
    assert (await rider.get(me))["status"] == "paused"
    back = await rider.post(me, {"available": True})
    assert (back["status"], back["until"]) == ("available", None)
    away = await rider.post(me, {"available": False, "minutes": 5})
    assert (away["status"], away["reason"]) == ("paused", "break")
    await rider.refused(me, {"available": True, "minutes": 5}, 422, "invalid")
    await rider.post("/v1/riders/me/shift/stop")
    await rider.post("/v1/riders/me/shift/start", {"hours": 2}, 201)
    assert (await rider.get(me))["status"] == "available"


async def test_a_rider_chooses_to_take_all(rider: Desk, shop: Shop) -> None:
    """The next offer is a trip at once."""
    me = "/v1/riders/me/preferences"
    assert await rider.post(me, {"auto_accept": True}, method="PUT") == {"auto_accept": True}
    assert (await rider.get("/v1/riders/me/availability"))["auto_accept"] is True
    order_id = await shop.order_at("packed")
    await shop.offer(order_id)
    (trip,) = (await rider.get("/v1/riders/me/trips"))["items"]
    assert (trip["status"], trip["orders"]) == ("active", [order_id])


async def test_a_rider_hands_back_and_ops_bring_the_bags_home(
    rider: Desk, ops: Desk, shop: Shop
) -> None:
    """The order is undeliverable by ops' word, and comes back as any other."""
    order_id = await shop.order_at("collected")
    trip = await shop.trip(order_id)
    path = f"/v1/trips/{trip.id}/hand-back"
    await rider.refused(path, {"reason": "bored"}, 422, "invalid")
    await rider.refused("/v1/trips/trp_x/hand-back", {"reason": "unwell"}, 404, "not_found")
    await rider.post(path, {"reason": "unwell", "note": "I am dizzy"})
    await rider.post(f"/v1/trips/{trip.id}/check-in")
    (alert,) = (await ops.get("/v1/ops/dispatch/alerts"))["items"]
    assert (alert["kind"], alert["facts"]) == (
        "handed_back", {"cause": "unwell", "note": "I am dizzy"},
    )  # fmt: skip
    order = await ops.post(f"/v1/ops/orders/{order_id}/bring-back", {"reason": "rider unwell"})
    assert order["status"] == "undeliverable"
    back = await ops.post(f"/v1/ops/orders/{order_id}/return", {"restock": True})
    assert back["status"] == "returned"
    actions = [row["action"] for row in (await ops.get("/v1/ops/audit"))["items"]]
    assert actions == ["order.return", "order.bring_back"]


async def test_ops_see_how_riders_answer(ops: Desk, rider: Desk, shop: Shop) -> None:
    """What was asked and taken; what was withdrawn or taken unasked does not count."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    await rider.post(f"/v1/offers/{trip.offer_id}/decline", {"reason": "too_far"})
    await shop.offer(order_id)
    await ops.post(f"/v1/ops/orders/{order_id}/unassign", {"reason": "no"})
    await shop.offer(order_id)
    trip = await shop.trip(order_id)
    await rider.post(f"/v1/offers/{trip.offer_id}/accept")
    path = f"/v1/ops/cities/{shop.place.city.id}/riders/answers"
    items = (await ops.get(path))["items"]
    found = next(item for item in items if item["rider_id"] == shop.rider_id)
    assert (found["offers"], found["accepted"], found["declined"], found["withdrawn"]) == (
        3, 1, 1, 1,
    )  # fmt: skip
    assert (found["acceptance"], found["decline_reasons"]) == (0.5, {"too_far": 1})
    page = await ops.get(path, limit=1)
    rest = await ops.get(path, limit=1, cursor=page["next_cursor"])
    assert {page["items"][0]["rider_id"], rest["items"][0]["rider_id"]} == set(riders_of(shop))


async def test_other_deeds_of_staff_are_in_the_log_too(ops: Desk, shop: Shop) -> None:
    """Pausing a store and cancelling an order, each in its own transaction."""
    (product,) = await shop.stock(5)
    order_id = await shop.order_at("confirmed", {product.sku_id: 1})
    store = f"/v1/ops/stores/{shop.place.store.id}"
    await ops.post(f"{store}/pause", {"reason": "power cut"})
    await ops.post(f"{store}/resume")
    await ops.post(
        f"/v1/ops/orders/{order_id}/cancel", {"reason": "customer_request", "fee": "waive"}
    )
    rows = (await ops.get("/v1/ops/audit"))["items"]
    assert [row["action"] for row in rows] == ["order.cancel", "store.resume", "store.pause"]
    assert {row["city_id"] for row in rows} == {shop.place.city.id}
    page = await ops.get("/v1/ops/audit", limit=2)
    rest = await ops.get("/v1/ops/audit", limit=2, cursor=page["next_cursor"])
    assert [row["id"] for row in (*page["items"], *rest["items"])] == [row["id"] for row in rows]
    assert (await ops.get("/v1/ops/audit", who="usr_nobody"))["items"] == []
