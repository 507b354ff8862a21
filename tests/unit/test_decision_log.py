"""The log of decisions never holds up dispatch, whatever the disk and the database do."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from dispatch.plan import plan
from kit.db import Database, DatabaseUnavailable
from riders.decisions import DecisionRow, ExplanationRow
from server import decision_files, decision_log
from server.decision_log import DecisionLog
from server.decision_settings import DecisionLogSettings
from tests.decision_support import town


class Rows:
    """Stands for the database: keeps what would be inserted, or is away."""

    def __init__(self) -> None:
        self.decisions: list[DecisionRow] = []
        self.explained: list[ExplanationRow] = []
        self.away = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Rows]:
        if self.away:
            raise DatabaseUnavailable("away")
        yield self


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    kept = Rows()

    async def insert(_: Any, decisions: list[DecisionRow], explained: list[ExplanationRow]) -> None:
        kept.decisions += decisions
        kept.explained += explained

    monkeypatch.setattr(decision_log, "insert_decisions", insert)
    return kept


def open_log(rows: Rows, **settings: Any) -> DecisionLog:
    return DecisionLog.open(DecisionLogSettings(**settings), cast(Database, rows))


def record(log: DecisionLog, seed: int = 1, now_s: float = 1_000.0) -> str:
    question = replace(town(seed), now_s=now_s)
    return log.record("city", question, plan(question), seconds=0.01, epoch=3)


async def test_a_decision_is_written_and_indexed(rows: Rows, tmp_path: Path) -> None:
    """The row says where it is; there it is read as it was recorded."""
    async with open_log(rows, directory=tmp_path) as log:
        decision_id = record(log)
        await log.flush()
        (row,) = rows.decisions
        assert (row.id, row.city_id, row.epoch, row.dropped) == (decision_id, "city", 3, 0)
        assert row.file is not None
        assert row.file_offset is not None
        found = decision_files.read_at(tmp_path / row.file, row.file_offset)
    assert found.decision_id == decision_id
    assert plan(found.snapshot) == found.plan
    assert {one.order_id for one in rows.explained} >= {f"order-{n}" for n in range(6)}


async def test_an_order_is_explained_when_something_changes(rows: Rows, tmp_path: Path) -> None:
    """The same answer to the same question five seconds later is no news."""
    async with open_log(rows, directory=tmp_path) as log:
        record(log, seed=1, now_s=1_000.0)
        record(log, seed=1, now_s=1_000.5)
        await log.flush()
        first = len(rows.explained)
        assert len(rows.decisions) == 2
        record(log, seed=5, now_s=1_001.0)
        await log.flush()
    assert first == len({one.order_id for one in rows.explained[:first]})
    assert len(rows.explained) > first


async def test_a_disk_that_hangs_fills_the_queue_and_holds_up_nobody(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds no room is counted, and told with the next decision that gets through."""
    hangs, reached = threading.Event(), threading.Event()
    real = decision_files.append

    def append(path: Path, frame: bytes) -> int:
        reached.set()
        assert hangs.wait(30)
        return real(path, frame)

    monkeypatch.setattr(decision_files, "append", append)
    async with open_log(rows, directory=tmp_path, max_waiting=4) as log:
        record(log)
        assert reached.wait(30)
        for _ in range(10):
            record(log)
        assert log.dropped == 6
        hangs.set()
        await log.flush()
        assert sum(row.dropped for row in rows.decisions) == 6
    assert len(rows.decisions) == 5


async def test_a_full_disk_loses_the_files_and_keeps_the_explanations(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index says that there is no file."""

    def append(path: Path, frame: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decision_files, "append", append)
    async with open_log(rows, directory=tmp_path) as log:
        record(log)
        await log.flush()
    assert [(row.file, row.file_offset) for row in rows.decisions] == [(None, None)]
    assert rows.explained


async def test_a_database_that_is_away_loses_the_index_and_keeps_the_files(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries the batch is given up and counted; the next one says how many."""
    monkeypatch.setattr(decision_log, "INDEX_RETRY_S", 0.0)
    rows.away = True
    async with open_log(rows, directory=tmp_path) as log:
        record(log)
        await log.flush()
        assert log.dropped == 1
        rows.away = False
        record(log)
        await log.flush()
    assert [row.dropped for row in rows.decisions] == [1]
    assert len(list(decision_files.read_all(tmp_path))) == 2


async def test_without_a_directory_only_explanations_are_kept(rows: Rows) -> None:
    """An operator may turn the files off."""
    async with open_log(rows) as log:
        record(log)
        await log.flush()
    assert rows.decisions[0].file is None
    assert rows.explained


async def test_a_file_ends_at_its_size_and_at_the_hour(rows: Rows, tmp_path: Path) -> None:
    """No file grows for ever, and an hour can be found by name."""
    async with open_log(rows, directory=tmp_path, max_file_bytes=64 * 1024) as log:
        for n in range(60):
            record(log, seed=n % 7, now_s=1_000.0 + n)
            await log.flush()
        record(log, now_s=2 * 3600.0)
        await log.flush()
    names = sorted(path.name for path in tmp_path.rglob("*.dlog"))
    assert len(names) >= 3
    assert names[-1].startswith("19700101T02-")
    assert all(path.stat().st_size <= 64 * 1024 for path in tmp_path.rglob("*.dlog"))
    assert len(list(decision_files.read_all(tmp_path))) == 61


async def test_points_that_do_not_fit_are_not_recorded_and_raise_nothing(rows: Rows) -> None:
    """A mistake of the caller costs the record, never the round."""
    async with open_log(rows) as log:
        question = town(1)
        log.record("city", question, plan(question), seconds=0, epoch=1, points=[(1.0, 2.0)])
        assert log.dropped == 1


async def test_what_was_recorded_last_is_written_at_the_end(rows: Rows, tmp_path: Path) -> None:
    """A dispatcher that is stopped loses nothing that it has decided."""
    async with open_log(rows, directory=tmp_path) as log:
        for n in range(5):
            record(log, seed=n)
    assert len(rows.decisions) == 5
