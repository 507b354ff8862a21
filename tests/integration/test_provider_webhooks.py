"""The sandbox provider's webhooks: signed, at least once, over kill -9, in any order."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from payments.gateway import OutcomeStatus
from payments.webhooks import verify_signature
from tests.provider_process import SECRET, ProviderProcess, WebhookSink
from tests.waiting import until

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def module_sink() -> Iterator[WebhookSink]:
    with WebhookSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def provider(
    module_sink: WebhookSink, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProviderProcess]:
    store = tmp_path_factory.mktemp("webhooks") / "p.sqlite"
    with ProviderProcess(store, webhook_url=module_sink.url) as process:
        yield process


@pytest.fixture
def sink(module_sink: WebhookSink) -> WebhookSink:
    module_sink.status = 200
    module_sink.received.clear()
    return module_sink


async def post(
    client: httpx.AsyncClient, path: str, json: dict[str, object], key: str = ""
) -> dict[str, Any]:
    headers = {"Idempotency-Key": key or f"hook_{next(_numbers)}"}
    answer: dict[str, Any] = (await client.post(path, json=json, headers=headers)).json()
    return answer


async def authorise(
    client: httpx.AsyncClient, token: str = "tok_ok", key: str = ""
) -> dict[str, Any]:
    body = {
        "amount_minor": 1_000, "currency": "INR", "token": token, "method": "upi",
        "order_reference": "ord_7",
    }  # fmt: skip
    return await post(client, "/v1/payments", body, key)


async def pending(client: httpx.AsyncClient) -> int:
    state = (await client.get("/v1/_control")).json()
    return int(state["webhooks"].get("pending", 0))


async def test_each_change_is_told_with_its_full_state(
    provider: ProviderProcess, sink: WebhookSink
) -> None:
    """Authorised, captured, refunded, voided and declined arrive, and we believe them."""
    async with provider.client() as client:
        paid = await authorise(client)
        await post(client, f"/v1/payments/{paid['id']}/capture", {"amount_minor": 900})
        await post(client, f"/v1/payments/{paid['id']}/refund", {"amount_minor": 100})
        dropped = await authorise(client)
        await post(client, f"/v1/payments/{dropped['id']}/void", {})
        declined = (await authorise(client, "tok_declined"))["payment"]
        await until(lambda: len(sink.received) >= 6)
    now = datetime.now(UTC)
    events = [verify_signature(body, header, SECRET, now) for header, body in sink.received]
    assert {(event.type, event.reference) for event in events} == {
        ("payment.authorised", paid["id"]),
        ("payment.captured", paid["id"]),
        ("payment.refunded", paid["id"]),
        ("payment.authorised", dropped["id"]),
        ("payment.voided", dropped["id"]),
        ("payment.declined", declined["id"]),
    }
    assert {event.outcome.status for event in events if event.reference != declined["id"]} == {
        OutcomeStatus.SUCCEEDED
    }
    refused = next(event for event in events if event.reference == declined["id"])
    assert (refused.outcome.status, refused.outcome.code) == (
        OutcomeStatus.DECLINED,
        "card_declined",
    )
    refund = next(event for event in events if event.type == "payment.refunded")
    assert (refund.captured.amount_minor, refund.refunded.amount_minor) == (900, 100)
    assert (refund.status, refund.order_id) == ("partially_refunded", "ord_7")


async def test_failed_delivery_is_tried_again_with_a_new_signature(
    provider: ProviderProcess, sink: WebhookSink
) -> None:
    """An address that answers 500 gets the same event again until it takes it, then no more."""
    sink.status = 500
    async with provider.client() as client:
        payment = await authorise(client)
        await until(lambda: len(sink.events(payment["id"])) >= 3)
        sink.status = 204
        refused = len(sink.events(payment["id"]))
        await until(lambda: len(sink.events(payment["id"])) > refused)
        assert len({event["id"] for event in sink.events(payment["id"])}) == 1
        while await pending(client):
            assert sink.status == 204
    for header, body in sink.received:
        verify_signature(body, header, SECRET, datetime.now(UTC))


async def test_kill_9_loses_neither_operations_nor_pending_webhooks(
    provider: ProviderProcess, sink: WebhookSink
) -> None:
    """What was answered before the kill is there after it, and is told once the address is back."""
    sink.status = 500
    async with provider.client() as client:
        payments = [await authorise(client) for _ in range(5)]
        await post(client, f"/v1/payments/{payments[0]['id']}/capture", {})
        before = (await client.get("/v1/operations")).json()
    provider.kill()
    sink.received.clear()
    sink.status = 200
    provider.start()
    async with provider.client() as client:
        assert (await client.get("/v1/operations")).json() == before
        repeat = await client.post(
            "/v1/payments",
            json={
                "amount_minor": 1_000, "currency": "INR", "token": "tok_ok", "method": "upi",
                "order_reference": "ord_7",
            },
            headers={"Idempotency-Key": payments[1]["idempotency_key"]},
        )  # fmt: skip
        assert repeat.headers["Idempotent-Replayed"] == "true"
        assert repeat.json() == payments[1]
    expected = {(payment["id"], "payment.authorised") for payment in payments}
    expected.add((payments[0]["id"], "payment.captured"))
    await until(lambda: {(e["payment"]["id"], e["type"]) for e in sink.events()} >= expected)


async def test_processing_payment_settles_after_kill_9(
    provider: ProviderProcess, sink: WebhookSink
) -> None:
    """A slow payment that was cut off is authorised by the next process, and told."""
    async with provider.client() as client:
        slow = asyncio.create_task(authorise(client, "tok_slow", "hook_slow"))
        items: list[dict[str, Any]] = []
        while not items:
            params = {"idempotency_key": "hook_slow"}
            items = (await client.get("/v1/payments", params=params)).json()["items"]
        assert items[0]["status"] == "processing"
        provider.kill()
        with pytest.raises(httpx.TransportError):
            await slow
    provider.start()
    await until(lambda: len(sink.events(items[0]["id"])) > 0)
    assert [e["type"] for e in sink.events(items[0]["id"])] == ["payment.authorised"]


async def test_duplicate_token_sends_each_event_twice(
    provider: ProviderProcess, sink: WebhookSink
) -> None:
    """Every event arrives in two copies; their order is the engine's own test."""
    async with provider.client() as client:
        payment = await authorise(client, "tok_duplicate_webhook")
        await post(client, f"/v1/payments/{payment['id']}/capture", {})
        await until(lambda: len(sink.events(payment["id"])) >= 4)
    events = sink.events(payment["id"])
    assert sorted(event["type"] for event in events) == [
        "payment.authorised", "payment.authorised", "payment.captured", "payment.captured",
    ]  # fmt: skip
    assert len({event["id"] for event in events}) == 2


async def test_outage_holds_webhooks_back(provider: ProviderProcess, sink: WebhookSink) -> None:
    """During an outage nothing is told; afterwards all of it is."""
    async with provider.client() as client:
        while await pending(client):
            assert sink.status == 200
        sink.status = 500
        payment = await authorise(client)
        await until(lambda: len(sink.events(payment["id"])) > 0)
        await client.post("/v1/_control", json={"outage": True})
        sink.status = 200
        # Without the outage the next attempt comes within 100 ms and is taken.
        ends = time.monotonic() + 0.6
        while time.monotonic() < ends:
            assert await pending(client) == 1
        await client.post("/v1/_control", json={})
        told = len(sink.events(payment["id"]))
        await until(lambda: len(sink.events(payment["id"])) > told)
