"""Reconciliation on real HTTP, on each wire: it finds each planted difference and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from kit.db import Database
from kit.ids import new_id
from orders.payment_flow import Gateways, ask
from payments import operations
from payments.gateway import Gateway, OperationKind, OutcomeStatus
from payments.gateway_razorpay import RazorpayGateway, RazorpaySettings
from payments.gateway_sandbox import SandboxGateway, SandboxSettings
from payments.gateway_stripe import StripeGateway, StripeSettings
from payments.operations import OperationStatus
from payments.reconciler import Run, Scope, reconcile
from payments.settings import PaymentSettings
from tests.provider_process import API_KEY, ProviderProcess

# A city's worth where it is cheap; three of each fate are enough for the others.
PAYMENTS = {"sandbox": 30, "stripe": 18, "razorpay": 18}
WIRES = ("sandbox", "stripe", "razorpay")


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[ProviderProcess]:
    """Its book holds what one test did, and nothing else."""
    with ProviderProcess(tmp_path / "p.sqlite") as process:
        yield process


def gateway_of(wire: str, provider: ProviderProcess) -> Gateway:
    match wire:
        case "stripe":
            return StripeGateway(StripeSettings(provider.wire_url("stripe"), API_KEY))
        case "razorpay":
            return RazorpayGateway(
                RazorpaySettings(provider.wire_url("razorpay"), API_KEY, key_id="rzp_test_1")
            )
        case _:
            return SandboxGateway(SandboxSettings(provider.url, API_KEY))


@dataclass
class City:
    """The payments of a city at one gateway, written down as the settlement does."""

    database: Database
    gateway: Gateway
    provider: ProviderProcess

    async def operate(
        self, order_id: str, kind: OperationKind, amount_minor: int, reference: str | None = None
    ) -> str:
        """One operation: persisted, asked, its answer written down; the gateway's reference."""
        operation_id = new_id("pay")
        async with self.database.begin() as conn:
            await conn.execute(
                text(
                    "INSERT INTO payment_operations (id, order_id, kind, gateway, method,"
                    " amount_minor, currency, token, reference, status, next_attempt_at,"
                    " created_at) VALUES (:id, :order, :kind, :gateway, 'card', :amount, 'INR',"
                    " :token, :reference, 'pending', darkstore_now(), darkstore_now())"
                ),
                {
                    "id": operation_id, "order": order_id, "kind": kind.value,
                    "gateway": self.gateway.name, "amount": amount_minor, "reference": reference,
                    "token": "tok_ok" if kind is OperationKind.AUTHORISE else None,
                },
            )  # fmt: skip
            operation = await operations.find(conn, operation_id)
        gateways = Gateways({self.gateway.name: self.gateway}, PaymentSettings())
        outcome = await ask(gateways, operation)
        assert outcome.status is OutcomeStatus.SUCCEEDED, (kind, outcome)
        async with self.database.begin() as conn:
            await operations.record(
                conn, operation_id, OperationStatus.SUCCEEDED, outcome.reference, None, 0.0
            )
        assert outcome.reference is not None
        return outcome.reference

    async def trade(self) -> dict[str, list[tuple[str, str]]]:
        """Payments of every fate; (order, reference) by fate."""
        fates: dict[str, list[tuple[str, str]]] = {}
        for n in range(PAYMENTS[self.gateway.name]):
            order_id, amount = new_id("ord"), 10_000 + 37 * n
            paid = await self.operate(order_id, OperationKind.AUTHORISE, amount)
            fate = ("open", "void", "whole", "part", "refund", "refunds")[n % 6]
            fates.setdefault(fate, []).append((order_id, paid))
            if fate == "void":
                await self.operate(order_id, OperationKind.VOID, amount, paid)
            if fate in ("whole", "refund", "refunds"):
                await self.operate(order_id, OperationKind.CAPTURE, amount, paid)
            if fate == "part":
                await self.operate(order_id, OperationKind.CAPTURE, amount - 2_500, paid)
            if fate in ("refund", "refunds"):
                await self.operate(order_id, OperationKind.REFUND, 1_000 + n, paid)
            if fate == "refunds":
                await self.operate(order_id, OperationKind.REFUND, 2_000 + n, paid)
        return fates

    async def plant(self, kind: str, reference: str) -> None:
        async with self.provider.client() as client:
            answer = await client.post("/_control/plant", json={"kind": kind, "payment": reference})
            assert answer.status_code == httpx.codes.OK, answer.text

    async def reconcile(self, scope: Scope) -> Run:
        return await reconcile(
            self.database,
            self.gateway.name,
            self.gateway,
            scope,  # type: ignore[arg-type]
        )

    async def kept(self, *, still_open: bool = True) -> list[tuple[Any, ...]]:
        async with self.database.begin() as conn:
            rows = await conn.execute(
                text(
                    "SELECT kind, order_id FROM reconciliation_differences"
                    " WHERE gateway = :gateway AND (resolved_at IS NULL) = :open ORDER BY 1, 2"
                ),
                {"gateway": self.gateway.name, "open": still_open},
            )
            return [tuple(row) for row in rows]


@pytest.fixture(params=WIRES)
async def city(
    request: pytest.FixtureRequest, fresh_database: Database, provider: ProviderProcess
) -> AsyncIterator[City]:
    gateway = gateway_of(request.param, provider)
    yield City(fresh_database, gateway, provider)
    await gateway.close()


async def test_each_planted_difference_is_found_and_no_other(city: City) -> None:
    """A city's payments agree; then six differences are planted, and exactly those are told."""
    fates = await city.trade()
    clean = await city.reconcile(Scope.FULL)
    assert clean.compared > 0
    assert clean.differences == []
    whole, part, refund, refunds = (fates[fate] for fate in ("whole", "part", "refund", "refunds"))
    await city.plant("unknown_capture", whole[0][1])
    await city.plant("lost_capture", whole[1][1])
    await city.plant("wrong_amount", whole[2][1])
    await city.plant("wrong_amount", part[0][1])
    await city.plant("extra_refund", refund[0][1])
    await city.plant("lost_refund", refunds[0][1])
    run = await city.reconcile(Scope.FULL)
    found = sorted(
        (one.kind.value, (one.ours or one.theirs).kind.value, one.ours.order_id if one.ours else "")  # type: ignore[union-attr]
        for one in run.differences
    )
    assert found == sorted(
        [
            ("missing_here", "capture", ""),
            ("missing_there", "capture", whole[1][0]),
            ("amount", "capture", whole[2][0]),
            ("amount", "capture", part[0][0]),
            ("missing_here", "refund", ""),
            ("missing_there", "refund", refunds[0][0]),
        ]
    )
    assert len(run.new) == 6
    again = await city.reconcile(Scope.FULL)
    assert (len(again.differences), again.new) == (6, [])
    assert len(await city.kept()) == 6


@pytest.mark.parametrize("city", ["stripe"], indirect=True)
async def test_a_run_of_what_is_new_finds_what_is_new(city: City) -> None:
    """After a first whole run only fresh operations are compared, and a late line heals."""
    first = new_id("ord")
    paid = await city.operate(first, OperationKind.AUTHORISE, 5_000)
    await city.operate(first, OperationKind.CAPTURE, 5_000, paid)
    assert (await city.reconcile(Scope.INCREMENTAL)).scope is Scope.FULL
    second = new_id("ord")
    paid = await city.operate(second, OperationKind.AUTHORISE, 6_000)
    await city.operate(second, OperationKind.CAPTURE, 6_000, paid)
    await city.plant("lost_capture", paid)
    run = await city.reconcile(Scope.INCREMENTAL)
    assert run.scope is Scope.INCREMENTAL
    assert [(one.kind.value, one.order_id) for one in run.new] == [("missing_there", second)]
    assert (await city.reconcile(Scope.INCREMENTAL)).new == []
