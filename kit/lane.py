"""A lane: work that waits while other work of its kind is under way is done together.

What many requests ask of Postgres one by one costs a statement, a round trip and, where it writes,
a flush of the log each.  Nobody waits for company: whoever finds the lane free goes at once, alone,
and what comes meanwhile goes together when the lane is free again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog

from kit.errors import Busy

log = structlog.get_logger(__name__)

# Thirty-two orders take about 8 ms: more would make each wait longer for little.
TOGETHER_MAX: Final = 32
# A piece that waits so long for somebody's lock does not keep the others waiting too.
PATIENCE_S: Final = 0.25

# Beyond this many the answer would come after its request's deadline anyway.
WAITING_MAX: Final = 1_000

Item = TypeVar("Item")
Found = TypeVar("Found")


class _Waiting(Generic[Item, Found]):
    def __init__(self, item: Item) -> None:
        self.item = item
        # None: it has to be done alone.
        self.told: asyncio.Future[tuple[Found] | None]
        self.told = asyncio.get_running_loop().create_future()

    def tell(self, found: tuple[Found] | None) -> None:
        if not self.told.done():
            self.told.set_result(found)


class Lane(Generic[Item, Found]):
    """One kind of work of one process.  Use as a context; leaving it finishes what has begun.

    ``alone`` does one piece of work.  ``together`` does many and answers each by its place, with
    None where it has done nothing: that piece is then done alone.  So it may leave out whatever is
    out of the ordinary.  When it fails, all of them are done alone, so both must be safe to repeat.
    ``apart``: pieces that have the same of it never go together; None goes with everybody.
    """

    def __init__(
        self,
        name: str,
        alone: Callable[[Item], Awaitable[Found]],
        together: Callable[[Sequence[Item]], Awaitable[Sequence[Found | None]]],
        apart: Callable[[Item], Hashable | None] = lambda _item: None,
    ) -> None:
        self._name = name
        self._alone = alone
        self._together = together
        self._apart = apart
        self._waiting: deque[_Waiting[Item, Found]] = deque()
        self._busy = False
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

    async def submit(self, item: Item) -> Found:
        """Have one piece of work done.  Raises what ``alone`` raises, and Busy: too many wait."""
        if self._closing:
            return await self._alone(item)
        if len(self._waiting) >= WAITING_MAX:
            raise Busy("Too many are asking at this moment; try again in a few seconds.")
        waiting: _Waiting[Item, Found] = _Waiting(item)
        self._waiting.append(waiting)
        if not self._busy:
            self._busy = True
            self._tasks.create_task(self._run())
        found = await waiting.told
        return await self._alone(item) if found is None else found[0]

    async def _run(self) -> None:
        """Do what waits until nothing does."""
        try:
            while batch := self._take():
                doing = self._tasks.create_task(self._do(batch))
                await asyncio.wait((doing,), timeout=PATIENCE_S)
        finally:
            self._busy = False
            # Nothing is left here, unless the process is being torn down.
            for waiting in self._waiting:
                waiting.told.cancel()

    def _take(self) -> list[_Waiting[Item, Found]]:
        """What goes next, in order of arrival, without those that nobody waits for any more."""
        batch: list[_Waiting[Item, Found]] = []
        passed_over: list[_Waiting[Item, Found]] = []
        met: set[Hashable] = set()
        while self._waiting and len(batch) < TOGETHER_MAX:
            waiting = self._waiting.popleft()
            if waiting.told.done():
                continue
            mark = self._apart(waiting.item)
            if mark is None or mark not in met:
                batch.append(waiting)
                met.add(mark)
            else:
                passed_over.append(waiting)
        self._waiting.extendleft(reversed(passed_over))
        return batch

    async def _do(self, batch: Sequence[_Waiting[Item, Found]]) -> None:
        try:
            await (self._do_alone(batch[0]) if len(batch) == 1 else self._do_together(batch))
        finally:
            for waiting in batch:
                waiting.told.cancel()

    async def _do_together(self, batch: Sequence[_Waiting[Item, Found]]) -> None:
        found: Sequence[Found | None]
        try:
            found = await self._together([waiting.item for waiting in batch])
        except Exception as error:  # noqa: BLE001 - each of them finds out by itself what it is
            log.warning(
                "done_one_by_one", lane=self._name, size=len(batch), error=repr(error)[:200]
            )
            found = [None] * len(batch)
        for waiting, one_found in zip(batch, found, strict=True):
            waiting.tell(None if one_found is None else (one_found,))

    async def _do_alone(self, waiting: _Waiting[Item, Found]) -> None:
        try:
            found = await self._alone(waiting.item)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is its caller's to hear
            if not waiting.told.done():
                waiting.told.set_exception(error)
        else:
            waiting.tell((found,))
