"""Every dispatch decision, kept so that it can be explained and replayed.

``record`` only puts the decision into a bounded queue.  A thread of its own packs it and writes it
to a file; then a task writes where it is, and what became of each order, to Postgres.  A slow disk
or database fills the queue, and what finds no room is counted and left out: dispatch never waits.
A full disk loses the files and keeps the explanations.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import structlog
from sqlalchemy.exc import SQLAlchemyError

from dispatch.decision import DEFAULT_SET, Decision, engine_version
from dispatch.result import Plan
from dispatch.snapshot import Snapshot
from kit.db import Database
from kit.ids import new_id
from riders.decisions import DecisionRow, ExplanationRow, explanations, insert_decisions
from server import decision_files
from server.decision_settings import DecisionLogSettings
from server.workers.loop import PASSING

log = structlog.get_logger(__name__)

DRAIN_S: Final = 3.0
# Real seconds before another try at the index, times the number of the try.
INDEX_RETRY_S: Final = 0.2
# Outcomes that are remembered, so that an order is explained when something changes.
REMEMBERED: Final = 20_000
INDEX_TRIES: Final = 3
INDEX_PENDING: Final = 256
INDEX_TIMEOUT_S: Final = 5.0
# One warning in so many real seconds: a full disk is said once, not at every tick.
WARN_EVERY_S: Final = 60.0

Indexed = tuple[DecisionRow, Sequence[ExplanationRow]]


class DecisionLog:
    """The log of one process.  An async context: its thread ends with it, drained."""

    def __init__(self, settings: DecisionLogSettings, database: Database) -> None:
        self._database = database
        self._waiting: queue.Queue[Decision | None] = queue.Queue(settings.max_waiting)
        self._writer = _Writer(settings)
        self._indexed: asyncio.Queue[Indexed] = asyncio.Queue(INDEX_PENDING)
        self._engine = engine_version()
        self._dropped = 0
        self._warned_at = float("-inf")
        # A daemon, so that a disk that hangs for good cannot keep the process from ending.
        self._thread = threading.Thread(target=self._write, name="decision-log", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._indexing: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, settings: DecisionLogSettings, database: Database) -> Self:
        return cls(settings, database)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._indexing = asyncio.create_task(self._index(), name="decision-index")
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """What is under way is written, within ``DRAIN_S``."""
        assert self._indexing is not None
        try:
            async with asyncio.timeout(DRAIN_S):
                await self.flush()
        except TimeoutError:
            log.warning("decision_log_not_drained", waiting=self._waiting.qsize())
        self._indexing.cancel()
        await asyncio.gather(self._indexing, return_exceptions=True)
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return

    @property
    def dropped(self) -> int:
        """Decisions that found no room and are not written of yet."""
        return self._dropped

    def record(
        self,
        city_id: str,
        snapshot: Snapshot,
        plan: Plan,
        *,
        seconds: float,
        epoch: int,
        parameter_set: str = DEFAULT_SET,
        points: Sequence[Sequence[float]] | None = None,
    ) -> str:
        """Hand a decision over; returns its id at once.  Never waits, never raises.

        points: (latitude, longitude) of each place of the snapshot.
        """
        decision_id = new_id("dec")
        try:
            self._waiting.put_nowait(
                Decision(
                    decision_id=decision_id, city_id=city_id, snapshot=snapshot, plan=plan,
                    epoch=epoch, parameter_set=parameter_set, engine=self._engine,
                    seconds=seconds,
                    points=None if points is None else np.array(points, float).reshape(-1, 2),
                )
            )  # fmt: skip
        except queue.Full:
            self._dropped += 1
            self._warn("decision_log_full", dropped=self._dropped)
        except ValueError as error:
            self._dropped += 1
            self._warn("decision_not_recorded", error=str(error))
        return decision_id

    async def flush(self) -> None:
        """Until everything that was recorded before is written and indexed, or given up."""
        while self._waiting.unfinished_tasks:  # noqa: ASYNC110  # a thread's queue cannot be awaited
            await asyncio.sleep(0.01)
        # What the thread has passed on last is in the loop's queue, perhaps not in ours yet.
        await asyncio.sleep(0)
        await self._indexed.join()

    def _write(self) -> None:
        """The thread: pack, append, pass on to the index."""
        while (decision := self._waiting.get()) is not None:
            try:
                row, explained, trouble = self._writer.write(decision)
                if trouble is not None:
                    self._warn("decision_file_not_written", error=trouble)
                assert self._loop is not None
                self._loop.call_soon_threadsafe(self._pass_on, (row, explained))
            except Exception:
                # A decision that cannot be written must not end the log of all others.
                log.exception("decision_not_recorded")
            finally:
                self._waiting.task_done()

    def _pass_on(self, entry: Indexed) -> None:
        try:
            self._indexed.put_nowait(entry)
        except asyncio.QueueFull:
            self._dropped += 1
            self._warn("decision_index_full", dropped=self._dropped)

    async def _index(self) -> None:
        while True:
            batch = [await self._indexed.get()]
            while not self._indexed.empty():
                batch.append(self._indexed.get_nowait())
            try:
                await self._insert(batch)
            finally:
                for _ in batch:
                    self._indexed.task_done()

    async def _insert(self, batch: Sequence[Indexed]) -> None:
        """Try a few times; what the database does not take is only missing in the index."""
        dropped, self._dropped = self._dropped, 0
        rows = [row for row, _ in batch]
        rows[0] = replace(rows[0], dropped=dropped)
        explained = [one for _, some in batch for one in some]
        for attempt in range(1, INDEX_TRIES + 1):
            try:
                async with asyncio.timeout(INDEX_TIMEOUT_S):
                    async with self._database.begin() as conn:
                        await insert_decisions(conn, rows, explained)
                return
            except (*PASSING, SQLAlchemyError) as error:
                self._warn("decision_index_failed", error=type(error).__name__, attempt=attempt)
                await asyncio.sleep(INDEX_RETRY_S * attempt)
        self._dropped += dropped + len(rows)

    def _warn(self, event: str, **values: object) -> None:
        if time.monotonic() - self._warned_at > WARN_EVERY_S:
            self._warned_at = time.monotonic()
            log.warning(event, **values)


class _Writer:
    """What the thread knows: the files, and the last outcome of each order."""

    def __init__(self, settings: DecisionLogSettings) -> None:
        self._settings = settings
        self._name = new_id("log").removeprefix("log_").lower()
        self._part: dict[str, int] = {}
        self._current: dict[str, str] = {}
        self._outcomes: OrderedDict[str, tuple[object, ...]] = OrderedDict()

    def write(self, decision: Decision) -> tuple[DecisionRow, list[ExplanationRow], str | None]:
        """The decision's row, what is new about its orders, and what went wrong with the file."""
        file: str | None = None
        offset: int | None = None
        trouble: str | None = None
        if self._settings.directory is not None:
            try:
                file, offset = self._append(self._settings.directory, decision)
            except OSError as error:
                file, trouble = None, f"{type(error).__name__}: {error.strerror}"
        return _row(decision, file, offset), self._news(decision), trouble

    def _append(self, directory: Path, decision: Decision) -> tuple[str, int]:
        frame = decision_files.pack(decision)
        hour = decision_files.file_name(decision.city_id, decision.snapshot.now_s, self._name)
        if self._current.get(decision.city_id) != hour:
            self._current[decision.city_id], self._part[decision.city_id] = hour, 0
            forget_files(directory, self._settings)
        name = self._numbered(hour, decision.city_id)
        size = _size(directory / name)
        if size and size + len(frame) > self._settings.max_file_bytes:
            self._part[decision.city_id] += 1
            name = self._numbered(hour, decision.city_id)
            forget_files(directory, self._settings)
        return name, decision_files.append(directory / name, frame)

    def _numbered(self, hour: str, city_id: str) -> str:
        part = self._part[city_id]
        stem = hour.removesuffix(decision_files.SUFFIX)
        return f"{stem}-{part:03d}{decision_files.SUFFIX}"

    def _news(self, decision: Decision) -> list[ExplanationRow]:
        news = []
        for row in explanations(decision.decision_id, decision.plan):
            if self._outcomes.get(row.order_id) != row.gist:
                news.append(row)
            self._outcomes[row.order_id] = row.gist
            self._outcomes.move_to_end(row.order_id)
        while len(self._outcomes) > REMEMBERED:
            self._outcomes.popitem(last=False)
        return news


def _row(decision: Decision, file: str | None, offset: int | None) -> DecisionRow:
    return DecisionRow(
        id=decision.decision_id,
        city_id=decision.city_id,
        at=datetime.fromtimestamp(decision.snapshot.now_s, tz=UTC),
        epoch=decision.epoch,
        parameter_set=decision.parameter_set,
        engine=decision.engine,
        seconds=decision.seconds,
        orders=len(decision.snapshot.orders),
        riders=len(decision.snapshot.riders),
        trips=len(decision.plan.trips),
        file=file,
        file_offset=offset,
        dropped=0,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def forget_files(directory: Path, settings: DecisionLogSettings) -> None:
    """Delete the oldest files until the rest is young and small enough; the newest one stays."""
    files: list[tuple[float, int, Path]] = []
    for path in directory.rglob(f"*{decision_files.SUFFIX}"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        files.append((status.st_mtime, status.st_size, path))
    files.sort()
    total = sum(size for _, size, _ in files)
    for written_at, size, path in files[:-1]:
        # Real time: files are kept for people, who do not live on the virtual clock.
        if total <= settings.max_total_bytes and time.time() - written_at <= settings.max_age_s:
            break
        path.unlink(missing_ok=True)
        total -= size
