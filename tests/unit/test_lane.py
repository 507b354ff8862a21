"""A lane: who waits goes together, and nobody pays for another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kit import lane
from kit.errors import Busy
from kit.lane import Lane
from tests.waiting import until


class Work:
    """Doubles numbers, and remembers how it was asked; odd ones are out of the ordinary."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.broken = False

    async def alone(self, item: int) -> int:
        self.asked.append([item])
        if item == 0:
            await self.gate.wait()
        if item < 0:
            raise ValueError(f"{item} cannot be done")
        return 2 * item

    async def together(self, items: Sequence[int]) -> list[int | None]:
        self.asked.append(list(items))
        if self.broken:
            raise ConnectionResetError("the connection broke")
        return [None if item % 2 or item < 0 else 2 * item for item in items]

    def lane(self) -> Lane[int, int]:
        return Lane("test", self.alone, self.together, apart=lambda item: item // 100 or None)

    async def hold(self, busy: Lane[int, int]) -> asyncio.Task[int]:
        """A piece that is under way until the gate opens."""
        first = asyncio.create_task(busy.submit(0))
        await until(lambda: [0] in self.asked)
        return first

    async def in_company(self, busy: Lane[int, int], items: Sequence[int]) -> list[object]:
        """The answers of pieces that all came while 0 held the lane."""
        first = await self.hold(busy)
        tasks = await waiting(busy, items)
        self.gate.set()
        assert await first == 0
        return list(await asyncio.gather(*tasks, return_exceptions=True))


async def waiting(busy: Lane[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    """Pieces that came while the lane was held."""
    tasks = [asyncio.create_task(busy.submit(item)) for item in items]
    # One turn of the loop: each has got as far as to wait.
    await asyncio.sleep(0)
    return tasks


async def test_who_is_alone_goes_at_once_and_who_waits_goes_together() -> None:
    work = Work()
    async with work.lane() as one:
        assert await one.submit(4) == 8
        assert await work.in_company(one, [2, 4, 6]) == [4, 8, 12]
    assert work.asked == [[4], [0], [2, 4, 6]]


async def test_what_is_left_out_of_a_batch_is_done_alone() -> None:
    """The others have their answers from the batch; an error is heard by its own caller only."""
    work = Work()
    async with work.lane() as one:
        two, three, none, six = await work.in_company(one, [2, 3, -1, 6])
    assert (two, three, six) == (4, 6, 12)
    assert isinstance(none, ValueError)
    assert work.asked == [[0], [2, 3, -1, 6], [3], [-1]]


async def test_a_batch_that_fails_is_done_one_by_one() -> None:
    work = Work()
    work.broken = True
    async with work.lane() as one:
        assert await work.in_company(one, [2, 4]) == [4, 8]
    assert work.asked == [[0], [2, 4], [2], [4]]


async def test_what_belongs_apart_never_goes_together() -> None:
    """Two pieces with the same mark: the second goes next, and nobody overtakes its like."""
    work = Work()
    async with work.lane() as one:
        assert await work.in_company(one, [100, 102, 200, 104]) == [200, 204, 400, 208]
    assert work.asked == [[0], [100, 200], [102], [104]]


async def test_who_waits_for_a_lock_does_not_keep_the_others_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane, "PATIENCE_S", 0.02)
    work = Work()
    async with work.lane() as one:
        stuck = await work.hold(one)
        async with asyncio.timeout(2.0):
            assert await one.submit(4) == 8
        assert not stuck.done()
        work.gate.set()
        assert await stuck == 0


async def test_nobody_works_for_a_caller_who_has_gone() -> None:
    work = Work()
    async with work.lane() as one:
        first = await work.hold(one)
        tasks = await waiting(one, [2, 4, 6])
        tasks[1].cancel()
        await asyncio.sleep(0)
        work.gate.set()
        await first
        assert [await tasks[0], await tasks[2]] == [4, 12]
    assert work.asked == [[0], [2, 6]]


async def test_leaving_finishes_what_waits_and_later_work_is_done_alone() -> None:
    work = Work()
    async with work.lane() as one:
        tasks = [await work.hold(one), *await waiting(one, [2, 4])]
        # Only after the body has ended.
        asyncio.get_running_loop().call_later(0.01, work.gate.set)
    assert [await task for task in tasks] == [0, 4, 8]
    assert await one.submit(5) == 10


async def test_too_many_are_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "WAITING_MAX", 2)
    work = Work()
    async with work.lane() as one:
        first = await work.hold(one)
        tasks = await waiting(one, [2, 4])
        with pytest.raises(Busy):
            await one.submit(6)
        work.gate.set()
        assert [await task for task in (first, *tasks)] == [0, 4, 8]
