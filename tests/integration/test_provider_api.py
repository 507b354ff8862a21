"""The sandbox provider over HTTP: money rules, idempotency, faults, and what it refuses."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.provider_process import ProviderProcess
from tests.waiting import until

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    with ProviderProcess(tmp_path_factory.mktemp("provider") / "p.sqlite") as process:
        yield process


@pytest.fixture
async def client(provider: ProviderProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with provider.client() as client:
        yield client
        await client.post("/v1/_control", json={})


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"att_{next(_numbers)}"}


def body(token: str = "tok_ok", **changes: object) -> dict[str, object]:
    return {
        "amount_minor": 1_000, "currency": "INR", "token": token, "method": "card",
        "order_reference": "ord_1", **changes,
    }  # fmt: skip


async def authorised(client: httpx.AsyncClient, token: str = "tok_ok") -> dict[str, Any]:
    response = await client.post("/v1/payments", json=body(token), headers=key())
    assert response.status_code == 201
    payment: dict[str, Any] = response.json()
    return payment


async def operate(
    client: httpx.AsyncClient, payment: dict[str, Any], verb: str, amount_minor: int | None = None
) -> httpx.Response:
    json = {} if amount_minor is None else {"amount_minor": amount_minor}
    return await client.post(f"/v1/payments/{payment['id']}/{verb}", json=json, headers=key())


def code_of(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


async def test_payment_lives_from_authorisation_to_refund(client: httpx.AsyncClient) -> None:
    """Authorise, capture a part, refund it in two steps; the log lists exactly what took effect."""
    payment = await authorised(client)
    assert (payment["status"], payment["captured_minor"]) == ("authorised", 0)
    captured = (await operate(client, payment, "capture", 800)).json()
    assert (captured["status"], captured["captured_minor"]) == ("captured", 800)
    first = (await operate(client, payment, "refund", 300)).json()
    assert (first["status"], first["refunded_minor"]) == ("partially_refunded", 300)
    second = (await operate(client, payment, "refund")).json()
    assert (second["status"], second["refunded_minor"]) == ("refunded", 800)
    kinds = [(one["kind"], one["amount_minor"]) for one in second["operations"]]
    assert kinds == [("authorise", 1_000), ("capture", 800), ("refund", 300), ("refund", 500)]
    assert (await client.get(f"/v1/payments/{payment['id']}")).json() == second


async def test_capture_beyond_the_authorisation_is_refused(client: httpx.AsyncClient) -> None:
    """Not a unit more than was authorised, and only once."""
    payment = await authorised(client)
    over = await operate(client, payment, "capture", 1_001)
    assert (over.status_code, code_of(over)) == (422, "amount_too_large")
    assert (await operate(client, payment, "capture", 600)).status_code == 200
    again = await operate(client, payment, "capture", 400)
    assert (again.status_code, code_of(again)) == (409, "illegal_state")


async def test_refunds_together_never_exceed_the_capture(client: httpx.AsyncClient) -> None:
    """Ten refunds of a quarter at once: four take effect, whatever their order."""
    payment = await authorised(client)
    await operate(client, payment, "capture")
    answers = await asyncio.gather(*(operate(client, payment, "refund", 250) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [409] * 6
    state = (await client.get(f"/v1/payments/{payment['id']}")).json()
    assert (state["refunded_minor"], state["status"]) == (1_000, "refunded")


async def test_refund_beyond_the_rest_is_refused(client: httpx.AsyncClient) -> None:
    """After 700 of 1,000 were given back, 301 is too much and 300 is not."""
    payment = await authorised(client)
    await operate(client, payment, "capture")
    await operate(client, payment, "refund", 700)
    over = await operate(client, payment, "refund", 301)
    assert (over.status_code, code_of(over)) == (422, "amount_too_large")
    assert (await operate(client, payment, "refund", 300)).json()["status"] == "refunded"


@pytest.mark.parametrize(
    ("first", "then"),
    [("void", "capture"), ("void", "refund"), ("capture", "void"), (None, "refund")],
)
async def test_operations_out_of_place_are_refused(
    client: httpx.AsyncClient, first: str | None, then: str
) -> None:
    """Nothing follows a void; what is captured is refunded, not voided; nothing else refunds."""
    payment = await authorised(client)
    if first:
        assert (await operate(client, payment, first)).status_code == 200
    refused = await operate(client, payment, then)
    assert (refused.status_code, code_of(refused)) == (409, "illegal_state")


async def test_same_key_answers_again_and_does_nothing_more(client: httpx.AsyncClient) -> None:
    """Twenty posts at once under one key make one payment and twenty equal answers."""
    headers = key()
    answers = await asyncio.gather(
        *(client.post("/v1/payments", json=body(), headers=headers) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    replays = [answer for answer in answers if "idempotent-replayed" in answer.headers]
    assert len(replays) == 19
    payment = answers[0].json()
    path, headers = f"/v1/payments/{payment['id']}/capture", key()
    captures = [await client.post(path, json={"amount_minor": 5}, headers=headers) for _ in "123"]
    assert len({capture.content for capture in captures}) == 1
    await operate(client, payment, "refund")
    late = await client.post(path, json={"amount_minor": 5}, headers=headers)
    assert late.content == captures[0].content, "the stored answer, not the state of today"


async def test_same_key_for_another_request_is_refused(client: httpx.AsyncClient) -> None:
    """Another amount, or another operation, under a used key is a bug of the caller."""
    headers = key()
    payment = (await client.post("/v1/payments", json=body(), headers=headers)).json()
    other = await client.post("/v1/payments", json=body(amount_minor=1), headers=headers)
    assert (other.status_code, code_of(other)) == (422, "idempotency_key_reused")
    path = f"/v1/payments/{payment['id']}/void"
    other = await client.post(path, json={}, headers=headers)
    assert (other.status_code, code_of(other)) == (422, "idempotency_key_reused")
    assert (await client.get(f"/v1/payments/{payment['id']}")).json()["status"] == "authorised"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_of_nobody", "invalid_token"),
    ],
)
async def test_declines_are_402_and_stay_declined(
    client: httpx.AsyncClient, token: str, code: str
) -> None:
    """A decline names its reason, is the same when repeated, and cannot be captured."""
    headers = key()
    declined = await client.post("/v1/payments", json=body(token), headers=headers)
    assert (declined.status_code, code_of(declined)) == (402, code)
    again = await client.post("/v1/payments", json=body(token), headers=headers)
    assert (again.status_code, again.content) == (402, declined.content)
    refused = await operate(client, declined.json()["payment"], "capture")
    assert (refused.status_code, code_of(refused)) == (409, "illegal_state")


async def find(client: httpx.AsyncClient, headers: dict[str, str]) -> list[dict[str, Any]]:
    params = {"idempotency_key": headers["Idempotency-Key"]}
    items: list[dict[str, Any]] = (await client.get("/v1/payments", params=params)).json()["items"]
    return items


async def found(client: httpx.AsyncClient, headers: dict[str, str]) -> list[str]:
    """The status of what a key made, once the request that nobody waited for has arrived."""
    deadline = time.monotonic() + 5
    while not (items := await find(client, headers)):
        assert time.monotonic() < deadline
    return [item["status"] for item in items]


async def test_slow_payment_is_processing_until_it_answers(
    provider: ProviderProcess, client: httpx.AsyncClient
) -> None:
    """Meanwhile a lookup says processing and a repeat says in progress; then it is authorised."""
    headers = key()
    started = time.monotonic()
    slow = asyncio.create_task(client.post("/v1/payments", json=body("tok_slow"), headers=headers))
    assert await found(client, headers) == ["processing"]
    repeat = await client.post("/v1/payments", json=body("tok_slow"), headers=headers)
    assert (repeat.status_code, code_of(repeat)) == (409, "idempotency_in_progress")
    assert (await slow).json()["status"] == "authorised"
    assert time.monotonic() - started >= 8 * 0.1
    assert await found(client, headers) == ["authorised"]


@pytest.mark.parametrize(
    ("token", "status"), [("tok_timeout_charged", "authorised"), ("tok_timeout_failed", "failed")]
)
async def test_time_out_tokens_never_answer_and_can_be_looked_up(
    client: httpx.AsyncClient, token: str, status: str
) -> None:
    """The client hears nothing; asked later, one has taken the money and the other has not."""
    headers = key()
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/payments", json=body(token), headers=headers, timeout=0.3)
    assert await found(client, headers) == [status]


async def test_held_connection_ends_without_a_success(client: httpx.AsyncClient) -> None:
    """A client that never gives up gets a 504 in the end, and no word on the payment."""
    answer = await client.post("/v1/payments", json=body("tok_timeout_charged"), headers=key())
    assert (answer.status_code, "id" in answer.json()) == (504, False)


async def test_log_pages_through_everything_once(client: httpx.AsyncClient) -> None:
    """Pages of three, put together, are the log in order without gap or repeat."""
    payment = await authorised(client)
    await operate(client, payment, "void")
    cursor: str | None = "0"
    paged: list[dict[str, Any]] = []
    while cursor is not None:
        page = (await client.get("/v1/operations", params={"limit": 3, "cursor": cursor})).json()
        paged += page["items"]
        cursor = page["next_cursor"]
    whole = (await client.get("/v1/operations", params={"limit": 500})).json()["items"]
    assert paged == whole
    assert [(one["kind"], one["payment_id"]) for one in paged[-2:]] == [
        ("authorise", payment["id"]),
        ("void", payment["id"]),
    ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"token": "4242424242424242"}, "card_number_refused"),
        ({"order_reference": "4242 4242 4242 4242"}, "card_number_refused"),
        ({"card": "4242-4242-4242-4242"}, "card_number_refused"),
        ({"amount_minor": 0}, "invalid_request"),
        ({"amount_minor": 10.0}, "invalid_request"),
        ({"amount_minor": "10"}, "invalid_request"),
        ({"amount_minor": True}, "invalid_request"),
        ({"currency": "inr"}, "invalid_request"),
        ({"method": "cod"}, "invalid_request"),
        ({"surprise": 1}, "invalid_request"),
    ],
)
async def test_wrong_bodies_are_400(
    client: httpx.AsyncClient, changes: dict[str, object], code: str
) -> None:
    """A card number, a float, a string for a number: refused, and nothing is echoed."""
    headers = key()
    refused = await client.post("/v1/payments", json={**body(), **changes}, headers=headers)
    assert (refused.status_code, code_of(refused)) == (400, code)
    assert "4242" not in refused.text
    assert await find(client, headers) == []


async def test_wrong_requests_are_refused(
    provider: ProviderProcess, client: httpx.AsyncClient
) -> None:
    """No key, no JSON, too long, no such payment, no API key: each has its answer."""
    assert (await client.post("/v1/payments", json=body())).status_code == 400
    broken = await client.post("/v1/payments", content=b"{", headers=key())
    assert (broken.status_code, code_of(broken)) == (400, "invalid_request")
    long = await client.post("/v1/payments", content=b" " * 20_000, headers=key())
    assert long.status_code == 413
    assert (await client.get("/v1/payments/sbp_none")).status_code == 404
    assert (await operate(client, {"id": "sbp_none"}, "capture")).status_code == 404
    assert (await client.get("/v1/operations", params={"limit": "-1"})).status_code == 400
    async with httpx.AsyncClient(base_url=provider.url) as stranger:
        assert (await stranger.get("/healthz")).status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await stranger.get("/v1/operations", headers=headers)
            assert (answer.status_code, code_of(answer)) == (401, "unauthenticated")
        assert (await stranger.post("/v1/_control", json={})).status_code == 401


async def test_outage_answers_503_until_it_ends(client: httpx.AsyncClient) -> None:
    """In an outage everything but the control and the health check is unavailable."""
    await client.post("/v1/_control", json={"outage": True})
    assert (await client.post("/v1/payments", json=body(), headers=key())).status_code == 503
    assert (await client.get("/v1/operations")).status_code == 503
    state = (await client.post("/v1/_control", json={})).json()
    assert state["fired"]["outage"] >= 2
    await authorised(client)


async def test_delay_comes_after_the_effect(client: httpx.AsyncClient) -> None:
    """A client that gives up during the delay finds its payment made."""
    await client.post("/v1/_control", json={"delay_ms": 400})
    headers = key()
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/payments", json=body(), headers=headers, timeout=0.2)
    await client.post("/v1/_control", json={})
    assert await found(client, headers) == ["authorised"]


async def test_decline_rate_declines_good_tokens(client: httpx.AsyncClient) -> None:
    """At a rate of one each payment is declined; at none again it is not."""
    await client.post("/v1/_control", json={"decline_rate": 1.0, "seed": 7})
    declined = await client.post("/v1/payments", json=body(), headers=key())
    assert (declined.status_code, code_of(declined)) == (402, "card_declined")
    await client.post("/v1/_control", json={})
    await authorised(client)


@pytest.mark.parametrize(("fault", "effects"), [("timeout_charged", 1), ("timeout_failed", 0)])
async def test_capture_can_time_out_with_and_without_effect(
    client: httpx.AsyncClient, fault: str, effects: int
) -> None:
    """Both look alike to the client; a repeat under the same key captures once in all."""
    payment = await authorised(client)
    await client.post("/v1/_control", json={f"{fault}_rate": 1.0})
    path, headers = f"/v1/payments/{payment['id']}/capture", key()
    with pytest.raises(httpx.ReadTimeout):
        await client.post(path, json={}, headers=headers, timeout=0.3)
    assert (await found(client, headers) if effects else await find(client, headers)) == [
        "captured"
    ] * effects
    repeat = await client.post(path, json={}, headers=headers)
    assert (repeat.status_code, repeat.json()["status"]) == (200, "captured")
    assert [one["kind"] for one in repeat.json()["operations"]] == ["authorise", "capture"]


async def test_unknown_control_is_refused(client: httpx.AsyncClient) -> None:
    """A misspelt fault must not pass for one that was set."""
    refused = await client.post("/v1/_control", json={"decline_rat": 1.0})
    assert (refused.status_code, code_of(refused)) == (400, "invalid_request")
    assert (await client.post("/v1/_control", json={"decline_rate": 1.5})).status_code == 400


async def test_stops_within_seconds_while_connections_are_held(tmp_path: Path) -> None:
    """SIGTERM does not wait for a client that is being kept waiting on purpose."""
    with ProviderProcess(tmp_path / "p.sqlite", time_scale=1.0) as process:
        async with process.client() as client:
            headers = key()
            held = asyncio.create_task(
                client.post("/v1/payments", json=body("tok_timeout_charged"), headers=headers)
            )
            while not await find(client, headers):
                assert not held.done()
            assert await asyncio.to_thread(process.stop) == 0
            await until(held.done)
            held.exception()
