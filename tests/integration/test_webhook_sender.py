"""Outgoing webhooks over real sockets: what receivers get, how often, and where nothing is sent."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from kit.db import Database
from kit.ids import new_id
from notify import repository, service
from notify.service import Scope
from notify.settings import NotifySettings, WebhookSettings
from server.wiring import Services
from server.workers.webhook_sender import Sender, send_due
from tests.http_support import make_services
from tests.order_support import Shop, open_shop

EVERYTHING = Scope(None)


@dataclass
class Receiver:
    """Somebody's web server: keeps what it gets and answers what a test says."""

    port: int = 0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[int], bytes] = lambda n: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    hang: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.got.append((headers, body))
            if self.hang:
                await reader.read()
            writer.write(self.answer(len(self.got)))
            await writer.drain()
        finally:
            writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


def services_for(database: Database, **changes: Any) -> Services:
    webhooks = WebhookSettings(
        **{"master_secret": SecretStr("m" * 32), "allow_private": True, "deadline_s": 3.0,
           **changes},
    )  # fmt: skip
    services = make_services(database)
    settings = services.settings.model_copy(update={"notify": NotifySettings(webhooks=webhooks)})
    return dataclasses.replace(services, settings=settings)


@pytest.fixture
def services(fresh_database: Database) -> Services:
    return services_for(fresh_database)


async def add_endpoint(services: Services, url: str, *events: str) -> tuple[str, str]:
    """(id, secret) of an endpoint for every city."""
    async with services.database.begin() as conn:
        made = await service.create(
            conn, services.settings.notify.webhooks, city_id=None, url=url,
            events=events or ("*",), description="", actor="usr_test",
        )  # fmt: skip
    return str(made["id"]), str(made["secret"])


async def ping(services: Services, endpoint_id: str) -> str:
    async with services.database.begin() as conn:
        return str((await service.ping(conn, EVERYTHING, endpoint_id))["id"])


async def delivery(services: Services, delivery_id: str) -> Any:
    async with services.database.begin() as conn:
        return await repository.find_delivery(conn, delivery_id)


async def attempts(services: Services, delivery_id: str) -> list[Any]:
    async with services.database.begin() as conn:
        return list(await repository.attempts_of(conn, delivery_id))


async def make_due(services: Services) -> None:
    async with services.database.begin() as conn:
        await conn.execute(text("UPDATE webhook_deliveries SET next_attempt_at = 'epoch'"))


def signed_by(secret: str, headers: dict[str, str], body: bytes) -> bool:
    parts = headers["darkstore-signature"].split(",")
    moment = parts[0].removeprefix("t=")
    mark = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"v1={mark}" in parts[1:]


async def test_a_receiver_gets_each_event_once_with_its_state_and_a_signature(
    fresh_database: Database, services: Services, receiver: Receiver
) -> None:
    """Every step of an order is one delivery; its body is the order in full, without its code."""
    shop = await open_shop(fresh_database)
    _, secret = await add_endpoint(services, receiver.url, "order.*")
    order_id = await shop.order_at("packed")
    await shop.relay()
    assert await send_due(services) == len(receiver.got) == 4
    assert await send_due(services) == 0
    events = [orjson.loads(body) for _, body in receiver.got]
    assert {event["type"] for event in events} == {
        "order.placed", "order.confirmed", "order.picking", "order.packed",
    }  # fmt: skip
    for (headers, body), event in zip(receiver.got, events, strict=True):
        assert signed_by(secret, headers, body)
        assert headers["darkstore-event-id"] == event["id"]
        assert event["data"]["object"]["id"] == order_id
        assert "delivery_code" not in event["data"]["object"]
        assert event["data"]["object"]["total"]["amount_minor"] > 0


async def test_events_go_to_the_city_and_the_types_that_were_asked_for(
    fresh_database: Database, services: Services
) -> None:
    """Another city's endpoint, another type's and a switched off one get nothing queued."""
    shop, other = await open_shop(fresh_database), await open_shop(fresh_database)
    wanted = {
        (shop.place.city.id, "order.confirmed"): 1,
        (shop.place.city.id, "payment.*"): 2,
        (other.place.city.id, "*"): 0,
    }
    made: dict[str, int] = {}
    async with fresh_database.begin() as conn:
        for (city_id, event), count in wanted.items():
            endpoint = await service.create(
                conn, services.settings.notify.webhooks, city_id=city_id,
                url="https://shop.example/hook", events=[event], description="", actor="usr_a",
            )  # fmt: skip
            made[str(endpoint["id"])] = count
    off, _ = await add_endpoint(services, "https://off.example/hook")
    async with fresh_database.begin() as conn:
        await service.change(
            conn, services.settings.notify.webhooks, EVERYTHING, off, {"active": False}
        )
    await shop.order_at("confirmed")
    await shop.relay()
    for endpoint_id, count in {**made, off: 0}.items():
        async with fresh_database.begin() as conn:
            rows = await repository.list_deliveries(conn, endpoint_id, None, None, 100)
        # 'placed' stands for the whole order; its payment moves to authorised.
        assert len(rows) == min(count, 1), (endpoint_id, [row.type for row in rows])


async def test_a_failing_receiver_is_tried_again_and_everything_is_logged(
    services: Services, receiver: Receiver
) -> None:
    """Two bad answers and a good one: three attempts of one event under one delivery id."""
    receiver.answer = lambda n: (
        b"HTTP/1.1 503 No\r\nRetry-After: 600\r\nContent-Length: 4\r\n\r\nbusy"
        if n == 1
        else b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        if n == 2
        else b"HTTP/1.1 204 No Content\r\n\r\n"
    )
    endpoint_id, _ = await add_endpoint(services, receiver.url)
    delivery_id = await ping(services, endpoint_id)
    await send_due(services)
    first = await delivery(services, delivery_id)
    assert (first.status, first.attempts) == ("waiting", 1)
    assert await send_due(services) == 0
    async with services.database.begin() as conn:
        wait_s = await conn.scalar(
            text(
                "SELECT extract(epoch FROM next_attempt_at - clock_timestamp())"
                " FROM webhook_deliveries WHERE id = :id"
            ),
            {"id": delivery_id},
        )
    assert 500 < float(wait_s) < 700
    for _ in range(2):
        await make_due(services)
        await send_due(services)
    assert (await delivery(services, delivery_id)).status == "delivered"
    log = await attempts(services, delivery_id)
    assert [(entry.n, entry.status_code, entry.answer) for entry in log] == [
        (1, 503, "busy"), (2, 302, ""), (3, 204, None),
    ]  # fmt: skip
    assert {headers["darkstore-delivery-id"] for headers, _ in receiver.got} == {delivery_id}
    assert len({body for _, body in receiver.got}) == 1


async def test_a_dead_delivery_can_be_replayed_with_the_same_bytes(
    fresh_database: Database, receiver: Receiver
) -> None:
    """After the last attempt it is dead; a replay sends the very same event again."""
    services = services_for(fresh_database, max_attempts=2)
    receiver.answer = lambda n: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    endpoint_id, _ = await add_endpoint(services, receiver.url)
    delivery_id = await ping(services, endpoint_id)
    for _ in range(3):
        await make_due(services)
        await send_due(services)
    assert (await delivery(services, delivery_id)).status == "dead"
    assert len(receiver.got) == 2
    receiver.answer = Receiver.answer
    async with fresh_database.begin() as conn:
        assert await service.replay(conn, EVERYTHING, endpoint_id, None) == 1
    await send_due(services)
    assert (await delivery(services, delivery_id)).status == "delivered"
    assert len({body for _, body in receiver.got}) == 1


async def test_nothing_reaches_a_private_address_by_number_or_by_name(
    fresh_database: Database, receiver: Receiver
) -> None:
    """What was allowed when it was saved, or resolves to loopback, is refused when it is called."""
    open_services, guarded = (
        services_for(fresh_database),
        services_for(fresh_database, allow_private=False),
    )
    deliveries = []
    for host in ("127.0.0.1", "localhost"):
        endpoint_id, _ = await add_endpoint(open_services, f"http://{host}:{receiver.port}/hook")
        deliveries.append(await ping(open_services, endpoint_id))
    await send_due(guarded)
    for delivery_id in deliveries:
        (entry,) = await attempts(guarded, delivery_id)
        assert entry.error.startswith("refused: ")
    assert receiver.got == []


async def test_a_hanging_receiver_does_not_hold_up_another(
    fresh_database: Database, receiver: Receiver
) -> None:
    """Both are sent side by side; the one that hangs ends at its deadline."""
    services = services_for(fresh_database, deadline_s=0.5)
    receiver.hang = True
    quick = Receiver()
    server = await asyncio.start_server(quick.serve, "127.0.0.1", 0)
    quick.port = server.sockets[0].getsockname()[1]
    async with server:
        slow_id, _ = await add_endpoint(services, receiver.url)
        quick_id, _ = await add_endpoint(services, quick.url)
        slow, fast = await ping(services, slow_id), await ping(services, quick_id)
        await send_due(services)
    assert (await delivery(services, fast)).status == "delivered"
    assert [entry.error for entry in await attempts(services, slow)] == ["TimeoutError"]


async def test_two_senders_never_send_one_delivery_at_once(
    services: Services, receiver: Receiver
) -> None:
    """Forty events and two senders: each event arrives once."""
    endpoint_id, _ = await add_endpoint(services, receiver.url)
    for _ in range(40):
        await ping(services, endpoint_id)
    await asyncio.gather(send_due(services), send_due(services))
    ids = [headers["darkstore-delivery-id"] for headers, _ in receiver.got]
    assert len(ids) == len(set(ids)) == 40


async def test_a_late_report_does_not_undo_a_newer_attempt(
    services: Services, receiver: Receiver
) -> None:
    """A sender that lost its claim writes its attempt down and changes nothing."""
    endpoint_id, _ = await add_endpoint(services, receiver.url)
    delivery_id = await ping(services, endpoint_id)
    settings = services.settings.notify.webhooks
    async with services.database.begin() as conn:
        (stale,) = await repository.claim(conn, 10, 10, 30.0, [])
    await make_due(services)
    await send_due(services)
    async with services.database.begin() as conn:
        await repository.record_attempt(
            conn, stale, duration_ms=1, status_code=None, error="TimeoutError", answer=None,
            status="dead", again_in_s=1.0, disable_after_s=settings.disable_after_s,
        )  # fmt: skip
    assert (await delivery(services, delivery_id)).status == "delivered"


async def test_an_endpoint_that_fails_for_days_is_switched_off_until_somebody_looks(
    services: Services, receiver: Receiver
) -> None:
    """Off with a reason; its deliveries wait and go out when it is switched on again."""
    receiver.answer = lambda n: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    endpoint_id, _ = await add_endpoint(services, receiver.url)
    await ping(services, endpoint_id)
    await send_due(services)
    async with services.database.begin() as conn:
        await conn.execute(
            text("UPDATE webhook_endpoints SET failing_since = now() - interval '4 days'")
        )
    await make_due(services)
    await send_due(services)
    async with services.database.begin() as conn:
        row = await service.endpoint(conn, EVERYTHING, endpoint_id)
    assert (row.active, row.disabled_reason) == (False, "every attempt has failed for too long")
    await make_due(services)
    assert await send_due(services) == 0
    receiver.answer = Receiver.answer
    async with services.database.begin() as conn:
        await service.change(
            conn, services.settings.notify.webhooks, EVERYTHING, endpoint_id, {"active": True}
        )
    assert await send_due(services) == 1
    async with services.database.begin() as conn:
        row = await service.endpoint(conn, EVERYTHING, endpoint_id)
    assert (row.active, row.disabled_reason, row.failing_since) == (True, None, None)


async def test_a_receiver_that_is_gone_is_not_asked_again(
    services: Services, receiver: Receiver
) -> None:
    """410 switches the endpoint off at once."""
    receiver.answer = lambda n: b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    endpoint_id, _ = await add_endpoint(services, receiver.url)
    delivery_id = await ping(services, endpoint_id)
    await send_due(services)
    async with services.database.begin() as conn:
        row = await service.endpoint(conn, EVERYTHING, endpoint_id)
    assert not row.active
    assert (await delivery(services, delivery_id)).status == "dead"


async def test_both_secrets_sign_for_a_while_after_a_rotation(
    services: Services, receiver: Receiver
) -> None:
    """A receiver may change over in its own time."""
    endpoint_id, old = await add_endpoint(services, receiver.url)
    async with services.database.begin() as conn:
        rotated = await service.rotate(
            conn, services.settings.notify.webhooks, EVERYTHING, endpoint_id
        )
    await ping(services, endpoint_id)
    await send_due(services)
    headers, body = receiver.got[0]
    assert signed_by(old, headers, body)
    assert signed_by(str(rotated["secret"]), headers, body)
    assert not signed_by(new_id("key"), headers, body)


async def test_a_sender_takes_no_more_of_a_busy_endpoint(
    fresh_database: Database, receiver: Receiver
) -> None:
    """What is in flight counts: the next claim leaves a busy endpoint alone."""
    services = services_for(fresh_database, max_in_flight=6, max_in_flight_per_endpoint=2)
    busy, _ = await add_endpoint(services, receiver.url)
    free, _ = await add_endpoint(services, receiver.url)
    for _ in range(5):
        await ping(services, busy)
    sender = Sender(services, http=None, settings=services.settings.notify.webhooks)  # type: ignore[arg-type]  # nothing is sent
    assert [found.endpoint_id for found in await sender.claim()] == [busy, busy]
    await ping(services, free)
    assert [found.endpoint_id for found in await sender.claim()] == [free]


async def test_a_shop_without_endpoints_queues_nothing(
    fresh_database: Database,
) -> None:
    """No subscription, no row."""
    shop: Shop = await open_shop(fresh_database)
    await shop.order_at("confirmed")
    await shop.relay()
    assert await shop.rows("SELECT id FROM webhook_deliveries") == []
