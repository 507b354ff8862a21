"""A cancellation that was swallowed below us must still end the loop that it was meant for."""

from __future__ import annotations

import asyncio


def checkpoint() -> None:
    """Raise ``CancelledError`` if this task was asked to end.

    redis-py sends through ``asyncio.wait_for``, which in Python 3.11 loses a cancellation that
    arrives as its inner task completes (python/cpython#86296); a loop that never ends must look.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
