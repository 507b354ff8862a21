"""``make failover``: two dispatchers under traffic, and again and again the one at work goes away.

Each round it is killed with SIGKILL, or stopped past its lease and woken up again: at any moment,
with a plan in its hands, or in the middle of an assignment.  Measured is how long its city has no
dispatcher (until another one has looked at it), and counted is what the woken one writes: every
write of a dispatcher leaves a line with its process id, by a trigger.

Prints the seed, each round and the figures, the last line as JSON.  Exit code 0: p95 below 5 s, no
write of a woken dispatcher, no order with two riders, ``verify`` clean.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import uvloop

from kit import crash_points, log
from loadtests.chaos import bugs, runner
from loadtests.chaos.judge import until_quiet
from loadtests.chaos.system import SECOND_DISPATCHER, System, running_system
from server.verify import verify
from server.wiring import open_services

GOAL_S: Final = 5.0
DISPATCHERS: Final = ("dispatcher", SECOND_DISPATCHER)
# kill, stop: at any moment.  Then two that are stopped at a named line.  "both": stopped with a
# plan in its hands, and whoever takes over is stopped before it has done anything: nothing but the
# epoch stands between the woken one and its plan.
WAYS: Final = ("kill", "stop", "plan_made", "assignment_open", "both")
SPEED: Final = 8.0
PATIENCE_S: Final = 40.0
# How long a woken dispatcher is watched; a look takes a fraction of it.
WATCH_S: Final = 1.5
_POLL_S: Final = 0.02
# Real seconds that a round takes, for the length of the traffic.
_ROUND_S: Final = 11.0

# What a dispatcher may write; its log of decisions is no state.
_AUDITED: Final = (
    "orders", "trips", "trip_stops", "assignments", "offers", "declines", "riders",
    "dispatch_leases", "dispatch_figures", "outbox",
)  # fmt: skip
_AUDIT: Final = """
    CREATE TABLE failover_writes (at timestamptz NOT NULL, pid int NOT NULL, what text NOT NULL);
    CREATE FUNCTION failover_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE who text := current_setting('application_name');
    BEGIN
        IF who LIKE 'darkstore dispatcher %' THEN
            INSERT INTO failover_writes VALUES
                (clock_timestamp(), split_part(who, ' ', 3)::int, TG_OP || ' ' || TG_TABLE_NAME);
        END IF;
        RETURN NULL;
    END $$;
"""
_WORK: Final = """
    SELECT l.holder, l.epoch, l.expires_at > clock_timestamp() AS lives,
           coalesce(f.looked_at, 'epoch'::timestamptz) AS looked_at
    FROM dispatch_leases l LEFT JOIN dispatch_figures f USING (partition_id) LIMIT 1
"""
_LOOKS: Final = """
    SELECT sum(decision_s)::float8 AS decision_s, sum((counts ->> 'looks')::int)::int AS looks,
           sum((counts ->> 'offered')::int)::int AS offered,
           sum((counts ->> 'extended')::int)::int AS extended,
           sum((counts ->> 'fallbacks')::int)::int AS fallbacks
    FROM dispatch_figures
"""
_TWO_RIDERS: Final = """
    SELECT order_id FROM assignments WHERE active GROUP BY 1 HAVING count(*) > 1
"""


@dataclass(frozen=True, slots=True)
class Round:
    """``gap_s`` is until another dispatcher had looked, ``lease_s`` until it had the lease."""

    way: str
    lease_s: float
    gap_s: float | None
    woken_writes: int
    written: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    pid: int
    epoch: int
    lives: bool
    looked_at: Any


class Failover:
    """The rounds of one run."""

    def __init__(
        self,
        system: System,
        conn: asyncpg.Connection[asyncpg.Record],
        seed: int,
        ways: Sequence[str],
    ) -> None:
        self._system = system
        self._ways = ways
        self._conn = conn
        self._rng = random.Random(f"{seed}:failover")

    async def prepare(self) -> None:
        await self._conn.execute(_AUDIT)
        for table in _AUDITED:
            await self._conn.execute(
                f"CREATE TRIGGER failover AFTER INSERT OR UPDATE OR DELETE ON {table}"
                " FOR EACH ROW EXECUTE FUNCTION failover_note()"
            )

    async def round(self) -> Round:
        """One dispatcher goes away.  Raises TimeoutError when nobody takes over."""
        await self._both_ready()
        way = self._rng.choice(self._ways)
        await asyncio.sleep(self._rng.uniform(0.0, 0.8))
        before = await self._work()
        if way in ("kill", "stop"):
            victim, started_s = self._strike(before.pid, way), time.monotonic()
        else:
            point = "plan_made" if way == "both" else way
            victim, started_s = await self._stopped_at(point)
            before = await self._work()
        lease_s, other = await self._lease_taken(victim, before.epoch, started_s)
        if way == "both":
            os.kill(other.pid, signal.SIGSTOP)
            written = await self._wake(victim)
            os.kill(other.pid, signal.SIGCONT)
            return Round(way, lease_s, None, len(written), tuple(written))
        gap_s = await self._looked_at(other, started_s)
        if way == "kill":
            return Round(way, lease_s, gap_s, 0, ())
        # Not always at the same moment after its lease has run out.
        await asyncio.sleep(self._rng.uniform(0.0, 1.5))
        written = await self._wake(victim)
        return Round(way, lease_s, gap_s, len(written), tuple(written))

    def _strike(self, pid: int, way: str) -> int:
        if way == "kill":
            name = self._system.name_of(pid)
            assert name is not None
            self._system.expect_death(name)
        os.kill(pid, signal.SIGKILL if way == "kill" else signal.SIGSTOP)
        return pid

    async def _stopped_at(self, point: str) -> tuple[int, float]:
        """Wait until a dispatcher sleeps at a line; its process id, and when that was."""
        folder = self._system.crash_points
        crash_points.arm(folder, point, stop=True)
        async with asyncio.timeout(PATIENCE_S):
            while (pid := crash_points.victim(folder, point)) is None:  # noqa: ASYNC110 - a file
                await asyncio.sleep(_POLL_S)
        return pid, time.monotonic()

    async def _lease_taken(self, old: int, epoch: int, started_s: float) -> tuple[float, _Work]:
        """When another one had the lease, and how things stood then."""
        async with asyncio.timeout(PATIENCE_S):
            while (work := await self._work()).pid == old or work.epoch <= epoch:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        return time.monotonic() - started_s, work

    async def _looked_at(self, then: _Work, started_s: float) -> float:
        """When the new one had finished its first look."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self._work()).looked_at == then.looked_at:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        return time.monotonic() - started_s

    async def _wake(self, pid: int) -> list[str]:
        """Let a stopped dispatcher go on; what it writes while another one has the lease."""
        woken_at = await self._conn.fetchval("SELECT clock_timestamp()")
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(WATCH_S)
        assert (await self._work()).pid != pid, "nobody has taken the lease from the other one"
        rows = await self._conn.fetch(
            "SELECT what FROM failover_writes WHERE pid = $1 AND at > $2", pid, woken_at
        )
        return [row["what"] for row in rows]

    async def _both_ready(self) -> None:
        """Two dispatchers run, one of them has looked a moment ago, the other one waits."""
        async with asyncio.timeout(90.0):
            while True:
                pids = [self._system.pid(name) for name in DISPATCHERS]
                here = await self._conn.fetch(
                    "SELECT DISTINCT split_part(application_name, ' ', 3)::int AS pid"
                    " FROM pg_stat_activity WHERE application_name LIKE 'darkstore dispatcher %'"
                )
                work = await self._work()
                if set(pids) <= {row["pid"] for row in here} and work.pid in pids and work.lives:
                    return
                await asyncio.sleep(0.1)

    async def _work(self) -> _Work:
        async with asyncio.timeout(PATIENCE_S):
            while (row := await self._conn.fetchrow(_WORK)) is None:  # noqa: ASYNC110 - a database
                await asyncio.sleep(_POLL_S)
        return _Work(
            int(row["holder"].rpartition(":")[2]), row["epoch"], row["lives"], row["looked_at"]
        )


async def run(
    system: System, rounds: int, seed: int, journal: Path, ways: Sequence[str] = WAYS
) -> tuple[list[Round], dict[str, Any]]:
    """All rounds under traffic, then what is left behind."""
    conn = await asyncpg.connect(system.database_url)
    try:
        failover = Failover(system, conn, seed, ways)
        await failover.prepare()
        traffic = await runner.start_traffic(system, seed, rounds * _ROUND_S, journal)
        done: list[Round] = []
        stuck: list[str] = []
        try:
            for n in range(1, rounds + 1):
                done.append(await failover.round())
                _say(f"round {n:2}: {_told(done[-1])}")
        except TimeoutError:
            stuck.append(f"nobody took over in round {len(done) + 1}")
            _say(stuck[-1])
        finally:
            traffic.kill()
            await traffic.wait()
        double = await conn.fetch(_TWO_RIDERS)
        looks = await conn.fetchrow(_LOOKS)
    finally:
        await conn.close()
    await until_quiet(system)
    async with open_services(system.place.settings, process="verify") as services:
        checks = await verify(services)
    broken = {check.name: list(check.examples) for check in checks if check.broken_rows}
    return done, {
        "orders_with_two_riders": len(double),
        "verify": broken,
        "stuck": stuck,
        "looks": None if looks is None else dict(looks),
    }


def _told(one: Round) -> str:
    told = f"{one.way:15} lease after {one.lease_s:.2f} s"
    if one.gap_s is not None:
        told += f", looked at after {one.gap_s:.2f} s"
    return told + (f", WROTE {', '.join(one.written[:5])}" if one.written else "")


def figures(rounds: Sequence[Round], left: dict[str, Any]) -> dict[str, Any]:
    """What a run showed; ``clean`` is whether it is as promised."""
    gaps = [one.gap_s for one in rounds if one.gap_s is not None] or [0.0]
    leases = [one.lease_s for one in rounds]
    found = {
        "rounds": len(rounds),
        "failover_p50_s": round(statistics.median(gaps), 2),
        "failover_p95_s": _p95(gaps),
        "failover_max_s": round(max(gaps), 2),
        "lease_p95_s": _p95(leases),
        "woken_writes": sum(one.woken_writes for one in rounds),
        "ways": {way: sum(one.way == way for one in rounds) for way in WAYS},
        **left,
    }
    found["clean"] = bool(
        found["failover_p95_s"] < GOAL_S
        and not found["woken_writes"]
        and not left["orders_with_two_riders"]
        and not left["verify"]
        and not left["stuck"]
    )
    return found


def _p95(values: Sequence[float]) -> float:
    return round(sorted(values)[-(-len(values) * 95 // 100) - 1], 2)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, action="append", help="only this one (repeatable)")
    parser.add_argument(
        "--bug", choices=[bug.__name__ for bug in bugs.BUGS], help="patch a known bug in"
    )
    return parser.parse_args()


async def _main(options: argparse.Namespace, scratch: Path) -> int:
    _say(f"failover seed={options.seed} rounds={options.rounds} bug={options.bug}")
    data_dir, outside = scratch / "data", scratch / "outside"
    data_dir.mkdir()
    async with running_system(
        data_dir, outside, speed=SPEED, seed_number=options.seed, small_disk=False, bug=options.bug
    ) as system:
        rounds, left = await run(
            system, options.rounds, options.seed, outside / "journal",
            options.way or WAYS,
        )  # fmt: skip
    found = figures(rounds, left)
    told = {**found, "each": [asdict(one) for one in rounds]}
    _say(orjson.dumps(told).decode())
    return 0 if found["clean"] else 1


def main() -> int:
    options = _arguments()
    log.configure("CRITICAL", process="failover")
    with tempfile.TemporaryDirectory(prefix="darkstore-failover-") as name:
        # The engines' own account has to get in when this runs as root.
        Path(name).chmod(0o755)
        return uvloop.run(_main(options, Path(name)))


if __name__ == "__main__":
    sys.exit(main())
