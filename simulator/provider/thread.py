"""The one thread that touches the store, so that SQLite never blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from simulator.provider.engine import Engine, EventRenderer
from simulator.provider.store import Store

Result = TypeVar("Result")


class StoreThread:
    """Runs functions of the engine and its store, one after the other.

    ``MAX_WAITING`` bounds what waits for the thread: beyond it :class:`Overloaded` is raised.
    """

    MAX_WAITING = 1_000

    def __init__(self, path: Path, render_event: EventRenderer | None, time_scale: float) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._waiting = 0
        opened = self._executor.submit(_open, path, render_event, time_scale)
        try:
            self.engine, self._store = opened.result()
        except BaseException:
            self._executor.shutdown()
            raise

    async def run(self, work: Callable[[Engine, Store], Result], *, bounded: bool = True) -> Result:
        """The result of ``work(engine, store)``, made in the store's thread."""
        if bounded and self._waiting >= self.MAX_WAITING:
            raise Overloaded
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, work, self.engine, self._store
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish what was begun and close the store."""
        self._executor.submit(self._store.close).result()
        self._executor.shutdown()


class Overloaded(Exception):
    """Too much waits for the store."""


def _open(path: Path, render: EventRenderer | None, time_scale: float) -> tuple[Engine, Store]:
    store = Store(path)
    return Engine(store, render, time_scale=time_scale), store
