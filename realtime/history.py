"""The recent past of every channel, for clients that resume and hubs that missed something."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from realtime.channels import Channel
from realtime.errors import StreamUnavailable
from realtime.events import StreamEvent

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a channel: everything up to ``seq`` (0: nothing yet) under ``epoch`` is known."""

    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class Heads:
    """The last ``seq`` of channels (without those that have no event) under one epoch."""

    epoch: str
    seqs: Mapping[str, int]


class History(Protocol):
    async def head(self, channel: Channel) -> Cursor:
        """The last event that this history knows.  Raises ``StreamUnavailable``."""
        ...

    async def since(
        self, channel: Channel, after: Cursor, limit: int, *, reach: int = 0
    ) -> list[StreamEvent] | None:
        """The events that follow ``after``, contiguous, at most ``limit`` of them.

        None when they cannot be served without a gap: another epoch, a place that this history
        has not reached or no longer holds, or not even ``reach`` (the ``seq`` that is known to
        exist) although fewer than ``limit`` events came.  Raises ``StreamUnavailable``.
        """
        ...


class HeadSource(Protocol):
    """The truth about heads, for the reconciler."""

    async def heads(self, channels: Collection[str]) -> Heads:
        """One query for all.  Raises ``StreamUnavailable``."""
        ...


def contiguous(
    events: list[StreamEvent], after_seq: int, limit: int, reach: int
) -> list[StreamEvent] | None:
    """``events`` if they follow ``after_seq`` without a gap and get as far as ``reach``."""
    for expected, event in enumerate(events, after_seq + 1):
        if event.seq != expected:
            return None
    if len(events) < limit and after_seq + len(events) < reach:
        return None
    return events


class LayeredHistory:
    """Asks the nearest history first; the last one is the truth.

    A layer that fails or cannot serve is passed over.
    """

    def __init__(self, layers: Sequence[History]) -> None:
        assert layers, "a history has at least one layer"
        self._layers = tuple(layers)

    async def head(self, channel: Channel) -> Cursor:
        """The head of the truth: a nearer layer may lag, and nobody asks often."""
        return await self._layers[-1].head(channel)

    async def since(
        self, channel: Channel, after: Cursor, limit: int, *, reach: int = 0
    ) -> list[StreamEvent] | None:
        """As the protocol says.  Raises ``StreamUnavailable`` when the truth does not answer."""
        for layer in self._layers[:-1]:
            try:
                events = await layer.since(channel, after, limit, reach=reach)
            except StreamUnavailable as error:
                _log.warning("history_layer_unavailable", detail=error.detail)
                continue
            if events is not None:
                return events
        return await self._layers[-1].since(channel, after, limit, reach=reach)
