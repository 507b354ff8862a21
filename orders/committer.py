"""The group committer: checkouts that wait while others commit are taken together.

A commit waits for the disk, and a batch waits once for all of its members; its statements start
once, and of a product that all of them want there is one new row version.  Nobody waits for a
batch to fill: whoever finds nobody under way goes at once, alone, and only who has to wait anyway
gets company.  A further lane opens when a whole batch waits, or when the others are held up: one
for each that comes would halve the batches, and a small one costs nearly what a large one does.
``checkout_batch`` (SQL) gives each member an outcome of its own.

::

    submit ──> waiting (bounded) ──> lane: up to batch_max of them, one transaction ──> outcomes
                                     lane: the next ones meanwhile

A member whose caller has gone is left out if it has not been sent, and committed like its
neighbours if it has.  When a batch fails as a whole, its members are tried again one by one: what
Postgres rolled back did not happen, and where nobody knows (the connection broke) the member's
idempotency key tells.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeAlias

import asyncpg
import orjson
import structlog

from kit.db import DatabaseUnavailable
from kit.errors import Busy
from kit.sql import load
from orders.settings import CommitterSettings

log = structlog.get_logger(__name__)

_CHECKOUT_BATCH = load("orders", "checkout_batch")

# What a transaction may be run again for: Postgres undid everything, and the next try may pass.
_PASSING = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
# Nobody knows whether the commit took place.
_LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, TimeoutError)
# Each try waits for the locks of the others; three in a row say that waiting does not help.
ALONE_ATTEMPTS = 3
RETRY_S = 0.02
# A batch that takes longer waits for somebody's locks, and another lane may go past it.
HELD_UP_S = 0.1

# One member: the parameters of checkout_batch without ``n``.  Its values are JSON.
Member = Mapping[str, Any]
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class CheckoutsBusy(Busy):
    code = "checkouts_busy"
    title = "Too many people are ordering at this moment"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one member; see ``checkout_batch``."""

    outcome: str
    order_id: str | None
    status: int | None
    answer: bytes | None
    short: str | None


@dataclass(slots=True, eq=False)
class _Waiting:
    member: Member
    since: float
    told: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def tell(self, found: Outcome | Exception) -> None:
        if self.told.done():
            return
        if isinstance(found, Exception):
            self.told.set_exception(found)
        else:
            self.told.set_result(found)


async def commit_alone(pool: Pool, member: Member, *, in_doubt: bool = False) -> Outcome:
    """One checkout in a transaction of its own.  ``in_doubt``: it may have been committed before.

    Raises ``DatabaseUnavailable`` when the database does not answer: then nobody knows, and the
    same key asked again tells.
    """
    for attempt in range(1, ALONE_ATTEMPTS + 1):
        try:
            (found,) = await _commit(pool, [member])
        except _PASSING:
            if attempt == ALONE_ATTEMPTS:
                raise Busy("Others are changing the same things; try again in a moment.") from None
        except _LOST as error:
            in_doubt = True
            # Once more at once: most often one connection broke, or Postgres has restarted.
            if attempt == ALONE_ATTEMPTS:
                raise DatabaseUnavailable(
                    "The database does not answer; try again in a moment."
                ) from error
        else:
            if found is not None:
                return _recognised(found, member) if in_doubt else found
            # Its key was somebody's a moment ago and is free now.
        await asyncio.sleep(RETRY_S * attempt)
    raise Busy("Others are changing the same things; try again in a moment.")


async def _commit(pool: Pool, members: Sequence[Member]) -> list[Outcome | None]:
    """One transaction; the outcome of each member, None for one that has to be tried again."""
    body = orjson.dumps([{**member, "n": n} for n, member in enumerate(members)])
    rows = {row["n"]: row for row in await pool.fetch(_CHECKOUT_BATCH.text, body.decode())}
    return [_outcome(rows.get(n)) for n in range(len(members))]


def _outcome(row: asyncpg.Record | None) -> Outcome | None:
    if row is None:
        return None
    return Outcome(row["outcome"], row["order_id"], row["status"], row["answer"], row["short"])


def _recognised(found: Outcome, member: Member) -> Outcome:
    """A replay of this very member is its commit, whose answer got lost."""
    if found.outcome == "replayed" and found.order_id == member["order_id"]:
        return replace(found, outcome="placed")
    return found


class Committer:
    """The checkouts of one process.  Use as a context; leaving it finishes what was accepted."""

    def __init__(
        self,
        pool: Pool,
        settings: CommitterSettings,
        on_batch: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._lanes = 0
        # Lanes whose batch takes no longer than a batch should.
        self._moving = 0
        self._closing = False
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        # Whatever ends the body is the body's own: the group would wrap it into its own error.
        await self._tasks.__aexit__(None, None, None)

    async def submit(self, member: Member) -> Outcome:
        """Commit one checkout, alone or in company.

        Raises ``CheckoutsBusy`` when too many wait already or its turn does not come in time
        (then nothing has happened), and what ``commit_alone`` raises.
        """
        if self._closing or len(self._waiting) >= self._settings.queue_max:
            raise _busy()
        waiting = _Waiting(member, time.monotonic())
        self._waiting.append(waiting)
        if not self._moving or len(self._waiting) >= self._settings.batch_max:
            self._open_lane()
        return await waiting.told

    def _open_lane(self) -> None:
        """One more, unless there are as many as there may be."""
        if self._lanes < self._settings.lanes:
            self._lanes += 1
            self._moving += 1
            self._tasks.create_task(self._lane())

    async def _lane(self) -> None:
        """Commit what waits until nothing does."""
        batch: list[_Waiting] = []
        try:
            while batch := self._take():
                committing = self._tasks.create_task(self._run(batch))
                await asyncio.wait((committing,), timeout=HELD_UP_S)
                if not committing.done():
                    self._moving -= 1
                    if self._waiting and not self._moving:
                        self._open_lane()
                    await committing
                    self._moving += 1
        finally:
            self._lanes -= 1
            self._moving -= 1
            for waiting in batch:
                waiting.tell(Busy("The server stopped meanwhile; ask again with the same key."))

    def _take(self) -> list[_Waiting]:
        """The next batch, in order of arrival; a customer's second checkout waits for the next."""
        late = time.monotonic() - self._settings.wait_max_s
        batch: list[_Waiting] = []
        actors: set[str] = set()
        passed_over: list[_Waiting] = []
        while self._waiting and len(batch) < self._settings.batch_max:
            waiting = self._waiting.popleft()
            if waiting.told.done():
                continue
            if waiting.since < late:
                waiting.tell(_busy())
            elif waiting.member["actor"] in actors:
                passed_over.append(waiting)
            else:
                actors.add(waiting.member["actor"])
                batch.append(waiting)
        self._waiting.extendleft(reversed(passed_over))
        return batch

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        self._on_batch(len(batch))
        found: Sequence[Outcome | None]
        in_doubt = False
        try:
            found = await _commit(self._pool, [waiting.member for waiting in batch])
        except (asyncpg.PostgresError, *_LOST) as error:
            log.warning("checkout_batch_failed", size=len(batch), error=type(error).__name__)
            if len(batch) == 1 and not isinstance(error, (*_PASSING, *_LOST)):
                batch[0].tell(error)
                return
            found = [None] * len(batch)
            in_doubt = isinstance(error, _LOST)
        except Exception as error:  # noqa: BLE001  # a bug: its members hear it, the lane goes on
            for waiting in batch:
                waiting.tell(error)
            return
        for waiting, outcome in zip(batch, found, strict=True):
            if outcome is not None:
                waiting.tell(outcome)
        failed = [one for one, told in zip(batch, found, strict=True) if told is None]
        await self._run_alone(failed, in_doubt)

    async def _run_alone(self, failed: Sequence[_Waiting], in_doubt: bool) -> None:
        """One by one, in order of arrival; while the database is away nobody is kept waiting."""
        away: DatabaseUnavailable | None = None
        for waiting in failed:
            if away is not None:
                waiting.tell(away)
                continue
            try:
                outcome = await commit_alone(self._pool, waiting.member, in_doubt=in_doubt)
                waiting.tell(outcome)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is its caller's to hear
                waiting.tell(error)
                away = error if isinstance(error, DatabaseUnavailable) else None


def _busy() -> CheckoutsBusy:
    return CheckoutsBusy(
        "Too many people are ordering at this moment; try again in a few seconds.",
        retry_after_s=2,
    )
