"""What comes from outside: a payment provider that misbehaves, a clock that jumps, poison."""

from __future__ import annotations

import asyncio
import random
import secrets
import time

import asyncpg
import httpx

from loadtests.chaos.faults.base import Fault, NotStruck
from loadtests.chaos.system import System

LANE = "outside"
DEATH_TIMEOUT_S = 120.0
# Real seconds that a fault of the provider waits for a payment to strike.
PATIENCE_S = 20.0
# Virtual seconds.  Processes keep the clock that they started with, so until each has been
# restarted they and the database disagree by this much: a skew, not only a jump.
JUMP_S = (20.0, 60.0)

_NOT_NOW = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Provider(Fault):
    """A setting of the provider for a while; struck when the provider counted it."""

    lane = LANE
    lasts_s = 8.0

    def __init__(self, name: str, counted: tuple[str, ...], **settings: object) -> None:
        self.name = f"provider: {name}"
        self.counted = counted
        self.settings = settings

    async def strike(self, system: System, rng: random.Random) -> str:
        try:
            before = await system.control(**self.settings, seed=rng.randrange(2**31))
            await asyncio.sleep(self.lasts_s)
            found: dict[str, int] = {}
            until_s = time.monotonic() + PATIENCE_S
            while not found and time.monotonic() < until_s:
                await asyncio.sleep(0.5)
                after = await system.counted()
                # The counts start anew when the provider is killed meanwhile.
                since = {what: max(0, after.get(what, 0) - before.get(what, 0))
                         for what in self.counted}  # fmt: skip
                found = {what: n for what, n in since.items() if n}
        except httpx.HTTPError as error:
            raise NotStruck("the provider was away") from error
        if not found:
            raise NotStruck("no payment came by")
        return ", ".join(f"{n} {what}" for what, n in found.items())

    async def heal(self, system: System) -> None:
        for _ in range(40):
            try:
                await system.control()
                return
            except httpx.HTTPError:
                await asyncio.sleep(0.5)
        raise TimeoutError("the provider did not come back")


class ClockJump(Fault):
    """Virtual time leaps ahead.  It never goes back: ``kit.clock`` has no way to, and neither has
    the table's owner (jumps of the machine's own clock need libfaketime)."""

    name = "clock jump"
    lane = LANE
    lasts_s = 1.0

    async def strike(self, system: System, rng: random.Random) -> str:
        jump_s = rng.uniform(*JUMP_S)
        try:
            rows = await system.sql(
                "WITH before AS (SELECT darkstore_now() AS at), jump AS ("
                " UPDATE clock SET anchor_virtual = anchor_virtual"
                " + make_interval(secs => $1::float8) RETURNING 1)"
                " SELECT at FROM before, jump",
                jump_s,
            )
            after = await system.sql("SELECT darkstore_now() AS at")
        except _NOT_NOW as error:
            raise NotStruck("the database was away") from error
        leapt_s = (after[0]["at"] - rows[0]["at"]).total_seconds()
        if leapt_s < jump_s:
            raise NotStruck("it did not move")
        return f"{jump_s:.0f} virtual s ahead"


class PoisonEvent(Fault):
    """An event that no consumer can digest: it dies, its stream waits, the others go on."""

    name = "poison event"
    lane = LANE
    lasts_s = 25.0

    async def strike(self, system: System, rng: random.Random) -> str:
        stream = f"order:ord_poison{secrets.token_hex(6)}"
        try:
            await system.sql("SELECT outbox_append($1, 'order.status', '{}'::jsonb)", stream)
            relayed = await self._relayed(system)
        except _NOT_NOW as error:
            raise NotStruck("the database was away") from error
        started_s = time.monotonic()
        while time.monotonic() < started_s + DEATH_TIMEOUT_S:
            await asyncio.sleep(0.5)
            try:
                dead = await system.sql("SELECT error FROM dead_letters WHERE stream = $1", stream)
                others = await self._relayed(system) - relayed
            except _NOT_NOW:
                continue
            if dead:
                if not others:
                    raise NotStruck("nothing else was to be relayed meanwhile")
                took_s = time.monotonic() - started_s
                return f"dead after {took_s:.0f} s ({others} others were relayed meanwhile)"
        raise NotStruck("it did not die in time")

    async def _relayed(self, system: System) -> int:
        rows = await system.sql("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL")
        return int(rows[0][0])
