"""Names in Redis.  The braces make a channel's keys share a slot of a cluster."""

from __future__ import annotations

PREFIX = "darkstore:stream"


def topic(channel: str) -> str:
    """The pub/sub channel on which a channel's events and positions are told."""
    return f"{PREFIX}:{{{channel}}}"


def topic_channel(name: str) -> str:
    """The inverse of :func:`topic`."""
    return name[len(PREFIX) + 2 : -1]


def log(epoch: str, channel: str) -> str:
    """The stream of a channel's recent events; another epoch starts another log."""
    return f"{PREFIX}:{{{channel}}}:{epoch}"
